"""A model of 70 billion parameters is adapted without making any of its tensors, or its adapters'."""

import resource

import pytest
import torch
from model_structure import first_difference, structure
from torch import nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from transformers import LlamaConfig, LlamaForCausalLM

from surgery.diagnostics import SurgeryError
from surgery.inject import apply
from surgery.inject.adding import add_adapter


def llama_70b():
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=128256,
            hidden_size=8192,
            intermediate_size=28672,
            num_hidden_layers=80,
            num_attention_heads=64,
            num_key_value_heads=8,
        )
    )


def on_meta():
    with torch.device("meta"):
        return llama_70b()


def on_fake_tensors():
    with FakeTensorMode():
        return llama_70b()


def is_virtual(tensor):
    return tensor.is_meta or isinstance(tensor, FakeTensor)


def linears(model):
    return [path for path, module in model.named_modules() if isinstance(module, nn.Linear) and path != "lm_head"]


@pytest.mark.heavy
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("build", [on_meta, on_fake_tensors])
def test_no_tensor_is_made(build, dtype, plan_for):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    model = build() if dtype is torch.float32 else in_bfloat16(build())
    base = {id(tensor) for tensor in (*model.parameters(), *model.buffers())}
    kind, paths = type(next(model.parameters())), linears(model)
    targets = {
        "attention": ("lora", {"r": 16}, [path for path in paths if "self_attn" in path]),
        "feed_forward": ("lora", {"r": 8, "dora": True}, [path for path in paths if "layers.7.mlp" in path]),
    }
    adapted = apply(model, plan_for(model, targets))
    second = plan_for(on_meta(), {"second": ("lora", {"r": 4}, paths[:100])}) if kind is nn.Parameter else None
    if second:
        add_adapter(adapted, second.sites, "second")
    made = [tensor for tensor in (*adapted.parameters(), *adapted.buffers()) if id(tensor) not in base]
    assert all(map(is_virtual, made))
    assert {type(tensor) for tensor in made if isinstance(tensor, nn.Parameter)} == {kind}
    assert {tensor.dtype for tensor in made} == {torch.float32}  # as PEFT casts them, whatever the base is in
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert peak < 600_000  # kilobytes; the adapters alone are 900 MB in float32, the model 280 GB


@pytest.mark.parametrize("build", [on_meta, on_fake_tensors])
def test_a_failure_leaves_no_trace(build, plan_for):
    model = build()
    objects, before = {id(tensor) for tensor in model.parameters()}, structure(model)
    plan = plan_for(model, {"a": ("lora", {"r": 16}, linears(model)[:20])})
    with pytest.raises(SurgeryError, match="E0509"):
        apply(model, plan.model_copy(update={"totals": plan.totals.model_copy(update={"added": 7})}))
    assert first_difference(structure(model), before) is None
    assert {id(tensor) for tensor in model.parameters()} == objects


def in_bfloat16(model):
    for module in model.modules():
        for name, parameter in module._parameters.items():
            if parameter is not None:
                module._parameters[name] = nn.Parameter(torch.empty_like(parameter, dtype=torch.bfloat16))
    return model
