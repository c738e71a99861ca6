"""Bases that bitsandbytes has quantised, on its CPU kernels, from capturing to an adapter that plain PEFT reads."""

from __future__ import annotations

import json
from copy import deepcopy
from pathlib import Path

import bitsandbytes
import pytest
import torch
from adaptable_layers import described
from peft import PeftModel
from safetensors.torch import load_file
from torch import nn
from transformers import AutoModelForCausalLM, BitsAndBytesConfig, LlamaConfig, LlamaForCausalLM

import surgery
from surgery.capturing.quantised import is_repacked, without_repacking
from surgery.diagnostics import SurgeryError
from surgery.graph import Init, Module, Parameter
from surgery.inject import apply, base_model, save_adapters
from surgery.inject.state import trainable_tensors
from surgery.methods import METHODS
from surgery.training import TrainConfig, train
from surgery.verifying import verify

CASES = Path(__file__).parents[1] / "methods" / "cases"
BITS = [8, 4]
INPUTS, OUTPUTS = 64, 32
pytestmark = pytest.mark.filterwarnings("ignore")


def quantised(bits: int, inputs: int = INPUTS, outputs: int = OUTPUTS) -> nn.Module:
    """A layer as transformers makes it; moving it to a device quantises it."""
    if bits == 8:
        layer = bitsandbytes.nn.Linear8bitLt(inputs, outputs, has_fp16_weights=False)
    else:
        layer = bitsandbytes.nn.Linear4bit(inputs, outputs, compute_dtype=torch.float32, quant_type="nf4")
    return layer.requires_grad_(False).to("cpu")


class Net(nn.Module):
    def __init__(self, bits: int):
        super().__init__()
        self.first, self.second = quantised(bits), quantised(bits, OUTPUTS, INPUTS)

    def forward(self, x):
        return self.second(torch.tanh(self.first(x)))


def cases():
    for name, method in METHODS.items():
        for bits in BITS:
            layers = [described(layer, "layer") for layer in Net(bits).children()]
            for number, given in enumerate(json.loads((CASES / f"{name}.json").read_text(encoding="utf-8"))):
                settings = {setting.name: setting.default for setting in method.settings} | given
                if not method.conflict(settings) and not any(method.refusal(layer, settings) for layer in layers):
                    yield pytest.param(name, bits, given, id=f"{name}-{bits}bit-{number}")


def outputs(model, x):
    torch.manual_seed(0)
    with torch.no_grad(), without_repacking(model):
        return model.eval()(x)


@pytest.mark.heavy
@pytest.mark.parametrize(("name", "bits", "given"), cases())
def test_every_method_that_takes_the_layer_is_exact_on_it(name, bits, given, plan_for, tmp_path):
    torch.manual_seed(0)
    base, x = Net(bits).eval(), torch.randn(2, 5, INPUTS)
    original = deepcopy(base)
    plan = plan_for(base, {"default": (name, given, ["first", "second"])})
    model = apply(base, plan)
    found = verify(model, plan, x)
    start = METHODS[name].start(plan.sites[0].settings)
    assert found.identity.status in {"exact": ["exact"], "close": ["exact", "close"], "none": ["skipped"]}[start]
    assert (found.gradients.reached, found.gradients.moved) == (2, 2)
    assert found.gradients.parameters == found.gradients.parameters_reached
    assert set(found.merging.skipped) == {"first", "second"}
    step(model, plan, x)
    trained = outputs(model, x)
    assert not torch.equal(trained, outputs(original, x))
    save_adapters(model, plan, tmp_path / "adapter")
    loaded = PeftModel.from_pretrained(original, str(tmp_path / "adapter"))
    assert torch.allclose(outputs(loaded, x), trained, atol=1e-5, rtol=1e-4)


def step(model, plan, x):
    """One step of training; the base model's weights, stored as they are, stay so."""
    stored = {name: tensor.clone() for name, tensor in base_model(model).named_parameters() if not tensor.requires_grad}
    optimizer = torch.optim.AdamW(list(trainable_tensors(model, plan)), lr=0.01)
    model.train()(x).square().sum().backward()
    optimizer.step()
    assert all(
        torch.equal(tensor, stored[name]) for name, tensor in base_model(model).named_parameters() if name in stored
    )


def test_planned_sizes_are_the_layers_not_those_of_what_it_stores(plan_for):
    net = Net(4)
    assert list(net.first.weight.shape) == [INPUTS * OUTPUTS // 2, 1]
    plan = plan_for(net, {"default": ("lora", {"r": 4}, ["first"])})
    assert plan.sites[0].added == 4 * (INPUTS + OUTPUTS)
    assert verify(apply(net, plan), plan, torch.randn(2, INPUTS)).added == 4 * (INPUTS + OUTPUTS)


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize(
    ("name", "given"),
    [("hra", {}), ("shira", {}), ("peanut", {}), ("lora", {"dora": True}), ("lora", {"init": "pissa"})],
)
def test_a_method_that_computes_with_the_weight_is_refused(name, given, bits):
    method = METHODS[name]
    settings = {setting.name: setting.default for setting in method.settings} | given
    assert f"from the weight, which is stored in {bits} bits" in method.refusal(
        described(quantised(bits), "layer"), settings
    )


@pytest.mark.parametrize("name", ["adalora", "hira"])
def test_what_peft_decides_by_the_model_is_refused(name):
    settings = {setting.name: setting.default for setting in METHODS[name].settings}
    assert "a model that transformers quantised" in METHODS[name].refusal(described(quantised(8), "layer"), settings)


@pytest.mark.parametrize(
    ("classes", "library"),
    [
        (("TorchQuantLinear", "PackableQuantLinear", "BaseQuantLinear"), "gptqmodel"),
        (("HQQLinear",), "HQQ"),
        (("QuantizedLinear",), "AQLM"),
        (("EetqLinear",), "EETQ"),
        (("PatchedLinear",), "Neural Compressor"),
        (("Linear", "TransformerEngineBaseModule"), "Transformer Engine"),
    ],
)
def test_layers_that_other_libraries_quantised_are_refused_by_their_class(classes, library):
    weight = Parameter("weight", (32, 64), "float16", Init("loaded"), 0)
    module = Module("layer", classes[0], classes, (weight,), {"in_features": 64, "out_features": 32})
    settings = {setting.name: setting.default for setting in METHODS["lora"].settings}
    reason = METHODS["lora"].refusal(module, settings)
    assert library in reason
    assert "nothing could be checked" in reason


def test_tensors_that_torchao_quantised_are_refused_by_their_class():
    """They are held by plain `nn.Linear` layers, and say that they are of the dtype that they stand for."""
    model = nn.Sequential(nn.Linear(8, 8))
    model[0].weight = type("Int8Tensor", (nn.Parameter,), {"__module__": "torchao.quantization"})(model[0].weight.data)
    module = surgery.capture(model, args=(torch.randn(2, 8),))["0"]
    settings = {setting.name: setting.default for setting in METHODS["lora"].settings}
    assert METHODS["lora"].refusal(module, settings) == "its weight is quantised (Int8Tensor)"


def test_verifying_leaves_4_bit_layers_open_to_gradients(plan_for):
    """bitsandbytes repacks 4-bit weights at a call for inference on some CPUs, and no gradient passes them then."""
    base, x = nn.Sequential(quantised(4, 64, 64), quantised(4, 64, 64)), torch.randn(2, 64)
    plan = plan_for(base, {"default": ("lora", {"r": 4}, ["0"])})
    model = apply(base, plan)
    verify(model, plan, x)
    assert not any(is_repacked(module) for module in model.modules())
    model.train()(x).sum().backward()
    assert base_model(model)[0].lora_B["default"].weight.grad.any()


@pytest.mark.skipif(not quantised(4).support_avx512bf16_for_cpu, reason="this CPU has no AVX512-BF16")
def test_4_bit_layers_that_a_call_for_inference_has_repacked_are_refused(plan_for):
    base, x = nn.Sequential(quantised(4, 64, 64), quantised(4, 64, 64)).eval(), torch.randn(2, 64)
    base(x)
    plan = plan_for(base, {"default": ("lora", {"r": 4}, ["0"])})
    with pytest.raises(SurgeryError) as error:
        verify(apply(base, plan), plan, x)
    [found] = error.value.diagnostics
    assert found.code == "E0506"
    assert found.message == "2 4-bit layers cannot be trained through, beginning with `0`"


SPEC = """\
surg 1
target attention { select role(attention_query, attention_value) expect 4  lora { r = 4  alpha = 8 } }
target gates { select role(feedforward_in) expect 4  lora { r = 2 } }
"""


@pytest.fixture(scope="module")
def saved_llama(tmp_path_factory):
    torch.manual_seed(0)
    sizes = {"hidden_size": 64, "intermediate_size": 96, "num_attention_heads": 4, "num_key_value_heads": 2}
    folder = tmp_path_factory.mktemp("llama")
    LlamaForCausalLM(LlamaConfig(num_hidden_layers=2, vocab_size=64, **sizes)).save_pretrained(folder)
    return folder


def load_llama(folder, bits):
    choice = {"load_in_8bit": True} if bits == 8 else {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4"}
    return AutoModelForCausalLM.from_pretrained(
        folder, quantization_config=BitsAndBytesConfig(**choice), device_map="cpu", dtype=torch.float32
    ).eval()


@pytest.mark.parametrize("bits", BITS)
def test_a_model_that_transformers_loads_quantised_goes_the_whole_way(bits, saved_llama, tmp_path):
    model = load_llama(saved_llama, bits)
    call = {"input_ids": torch.arange(12).reshape(2, 6)}
    (tmp_path / "llama.surg").write_text(SPEC)
    graph = surgery.capture(model, kwargs=call)
    assert roles(graph) == roles(surgery.capture(LlamaForCausalLM.from_pretrained(saved_llama), kwargs=call))
    plan = surgery.plan(surgery.load(tmp_path / "llama.surg"), graph)
    assert plan.applyable
    assert plan.sites[0].shape == [64, 64]
    adapted = surgery.apply(model, plan)
    found = surgery.verify(adapted, plan, call)
    assert (found.identity.status, found.gradients.reached, found.gradients.moved) == ("exact", 8, 8)
    assert f"stored in {bits} bits" in str(found.merging)
    optimizer = torch.optim.AdamW(list(trainable_tensors(adapted, plan)), lr=0.01)
    with without_repacking(adapted):
        adapted.train()(**call).logits.square().sum().backward()
        optimizer.step()
        trained = adapted.eval()(**call).logits
    save_adapters(adapted, plan, tmp_path / "adapter")
    names = list(dict.fromkeys(site.adapter for site in plan.sites))
    loaded = load_llama(saved_llama, bits)
    for name in names:
        folder = tmp_path / "adapter" / name if len(names) > 1 else tmp_path / "adapter"
        if isinstance(loaded, PeftModel):
            loaded.load_adapter(folder, name)
        else:
            loaded = PeftModel.from_pretrained(loaded, folder, adapter_name=name)
    loaded.base_model.set_adapter(names)
    with without_repacking(loaded):
        assert torch.allclose(loaded.eval()(**call).logits, trained, atol=1e-5, rtol=1e-4)
    with pytest.raises(SurgeryError, match=f"stored in {bits} bits"):
        surgery.export(adapted, plan, tmp_path / "merged", to="merged")
    assert not (tmp_path / "merged").exists()


class Words:
    """Predict the word itself; measured after every step or never."""

    def train_dataset(self):
        return list(torch.arange(32).reshape(4, 8))

    def loss(self, model, batch):
        return nn.functional.cross_entropy(model(input_ids=batch).logits.flatten(0, 1), batch.flatten())


class MeasuredWords(Words):
    def evaluate(self, model):
        return {"loss": self.loss(model, torch.arange(8)[None]).item()}


@pytest.mark.heavy
def test_measuring_between_the_steps_of_a_run_does_not_change_it(saved_llama, tmp_path):
    """It would, if the call in evaluation mode repacked the 4-bit weights."""
    (tmp_path / "llama.surg").write_text(SPEC)
    call = {"input_ids": torch.arange(12).reshape(2, 6)}
    saved = []
    for task in (Words(), MeasuredWords()):
        model = load_llama(saved_llama, 4)
        plan = surgery.plan(surgery.load(tmp_path / "llama.surg"), surgery.capture(model, kwargs=call))
        settings = TrainConfig(
            out=tmp_path / type(task).__name__, steps=3, batch_size=2, evaluate_every=1, tensorboard=False
        )
        result = train(model, plan, task, settings)
        files = sorted(result.adapter.rglob("*.safetensors"))
        saved.append([(file.name, load_file(file)) for file in files])
    for (name, plain), (_, measured) in zip(*saved, strict=True):
        assert plain.keys() == measured.keys(), name
        assert all(torch.equal(tensor, measured[key]) for key, tensor in plain.items())
        assert any(tensor.any() for key, tensor in plain.items() if "lora_B" in key)


def test_several_methods_are_refused_where_peft_does_not_mix_them(tmp_path):
    (tmp_path / "net.surg").write_text(
        'surg 1\ntarget a { select path("first") lora { r = 4 } }\ntarget b { select path("second") loha { r = 2 } }\n'
    )
    graph = surgery.capture(Net(8), args=(torch.randn(2, INPUTS),))
    plan = surgery.plan(surgery.load(tmp_path / "net.surg"), graph)
    assert [d.code for d in plan.diagnostics if d.severity == "error"] == ["E0407"]


def roles(graph):
    found = {}
    for path in graph:
        module = graph[path]
        found[path] = (sorted(module.roles), module.gradient.answer, module.bypassed.answer)
    return found
