"""Adapters on single parameters of real models: exactly the planned ones, as plain PEFT makes and loads them."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from peft import LoraConfig, PeftModel, get_peft_model, get_peft_model_state_dict
from safetensors.torch import load_file
from torch import nn

import surgery
from surgery.capturing import capture_spec
from surgery.diagnostics import Source, SurgeryError
from surgery.inject import load_adapter, save_adapters
from surgery.inject.parameters import layers_by_site, merged_parameter
from surgery.inject.state import adapter_state
from surgery.language import load_source
from surgery.planning.plan import Plan

SIZES: dict[str, Any] = {
    "vocab_size": 64,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}
MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "Qwen3Moe": ("qwen3_moe", {"moe_intermediate_size": 24, "num_experts": 4, "num_experts_per_tok": 2}),
    "Mixtral": ("mixtral", {"num_local_experts": 4}),
    "GptOss": ("gpt_oss", {"num_local_experts": 4, "num_experts_per_tok": 2, "head_dim": 8}),
}
SPEC = """surg 1
let stacks = param("**.experts.{gate_up_proj,down_proj}")  expect 4
target attention { select path("model.layers.0.self_attn.q_proj")  expect 1  lora { r = 4  alpha = 8 } }
target into { select stacks & role(feedforward_in)  expect 2  lora { r = 3  alpha = 6 } }
target out { select stacks & role(feedforward_out) & inside(path("model.layers.1"))  lora { r = 2  alpha = 2 } }
"""
IDS = {"input_ids": torch.arange(18).reshape(2, 9) % 64}


def mixture(name: str) -> nn.Module:
    kind, sizes = MODELS[name]
    torch.manual_seed(0)
    config = transformers.AutoConfig.for_model(kind, **SIZES, **sizes)
    return getattr(transformers, f"{name}ForCausalLM")(config).eval()


def planned(model: nn.Module, text: str, **call: Any) -> Plan:
    plan = surgery.plan(
        load_source(Source("test.surg", text), Path("test.surg"), {}), surgery.capture(model, kwargs=call)
    )
    assert plan.applyable, [finding.message for finding in plan.diagnostics]
    return plan


def randomise(model: nn.Module) -> None:
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.copy_(0.1 * torch.randn_like(parameter))


@pytest.mark.parametrize("name", MODELS)
def test_experts(name: str, tmp_path: Path) -> None:
    model = mixture(name)
    plan = planned(model, SPEC, **IDS)
    experts = model.get_submodule("model.layers.1.mlp.experts")
    count, rows, columns = experts.gate_up_proj.shape
    assert [site.added for site in plan.sites if site.target == "into"] == [3 * count * (rows + columns)] * 2
    before = model(**IDS).logits
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        adapted = surgery.apply(model, plan)
    assert torch.equal(adapted(**IDS).logits, before)
    assert sum(p.numel() for p in adapted.parameters() if p.requires_grad) == plan.totals.added
    assert layers_by_site(model).keys() == {site.full_path for site in plan.sites}

    adapted(**IDS).logits.square().sum().backward()
    trained = {n: p for n, p in adapted.named_parameters() if p.requires_grad}
    assert all(p.grad is not None and p.grad.any() for n, p in trained.items() if "lora_B" in n)

    randomise(adapted)
    after = adapted(**IDS).logits.detach()
    assert not torch.allclose(after, before)
    own, theirs = adapter_state(adapted, plan)["default"], get_peft_model_state_dict(adapted)
    assert own.keys() == theirs.keys()
    assert all(torch.equal(own[key], theirs[key]) for key in own)

    save_adapters(adapted, plan, tmp_path)
    loaded = PeftModel.from_pretrained(mixture(name), tmp_path)
    assert torch.equal(loaded(**IDS).logits, after)
    assert layers_by_site(loaded.get_base_model()).keys() == {site.full_path for site in plan.sites}
    again = surgery.apply(mixture(name), plan)
    load_adapter(again, plan, tmp_path)
    assert torch.equal(again(**IDS).logits, after)


@pytest.mark.parametrize("name", MODELS)
def test_merging(name: str) -> None:
    adapted = surgery.apply(model := mixture(name), planned(model, SPEC, **IDS))
    randomise(adapted)
    after = adapted(**IDS).logits.detach()
    layers = {path: layer for path, layer in layers_by_site(model).items() if "experts" in path}
    merged = {path: merged_parameter(layer, "default") for path, layer in layers.items()}
    alone = adapted.merge_and_unload()
    assert len(merged) == 3
    for path, parameter in merged.items():
        assert torch.allclose(alone.get_parameter(path), parameter, atol=1e-7), path
    assert torch.allclose(alone(**IDS).logits, after, atol=1e-6)


def test_half_precision_merges_with_one_rounding() -> None:
    model = mixture("Mixtral").to(torch.bfloat16)
    adapted = surgery.apply(model, planned(model, SPEC, **IDS))
    randomise(adapted)
    path = "model.layers.0.mlp.experts.gate_up_proj"
    layer: Any = layers_by_site(model)[path]
    own = layer.get_param().detach()
    a, b = layer.lora_A["default"].weight.double(), layer.lora_B["default"].weight.double()
    per_expert = [
        layer.scaling["default"] * b.reshape(b.shape[0], 3, 4)[:, :, e] @ a.reshape(4, 3, -1)[e] for e in range(4)
    ]
    exact = (own.double() + torch.stack(per_expert)).to(torch.bfloat16)
    merged = merged_parameter(layer, "default")
    assert own.dtype == merged.dtype == torch.bfloat16
    # In float32 a few sums fall on the other side of a rounding; PEFT rounds the product first.
    assert (merged != exact).float().mean() < 1e-3
    assert torch.allclose(merged, exact, rtol=2**-7)


class Attention(nn.Module):
    """Parameters of torch's own layers, and modules called like parts of PEFT's."""

    def __init__(self) -> None:
        super().__init__()
        self.mha = nn.MultiheadAttention(16, 2, batch_first=True)
        self.words = nn.Embedding(10, 16)
        self.lora_A = nn.Linear(16, 16)
        self.default = nn.Linear(16, 16)
        self.normed = nn.utils.weight_norm(nn.Linear(16, 16))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        hidden = self.words(x)
        hidden = hidden + self.mha(hidden, hidden, hidden)[0]
        return self.normed(self.default(self.lora_A(hidden)))


class Outer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.inner = Attention()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.inner(x)


X = torch.tensor([[1, 2, 3]])


@pytest.mark.parametrize(
    "select",
    [
        'param("inner.mha.in_proj_weight")',
        'param("inner.words.weight")',
        'param("inner.{lora_A,default}.weight")',
        'param("inner.normed.weight_{v,g}")',
        'path("inner.lora_A") | param("inner.default.weight")',
    ],
)
def test_parameters_of_layers(select: str, tmp_path: Path) -> None:
    model = Outer().eval()
    plan = planned(model, f"surg 1\ntarget t {{ select {select}  lora {{ r = 2 }} }}", x=X)
    before = model(X)
    adapted = surgery.apply(model, plan)
    assert torch.equal(adapted(X), before)
    randomise(adapted)
    after = adapted(X).detach()
    assert not torch.allclose(after, before)
    save_adapters(adapted, plan, tmp_path)
    assert torch.equal(PeftModel.from_pretrained(Outer().eval(), tmp_path)(X), after)
    assert torch.allclose(adapted.merge_and_unload()(X), after, atol=1e-5)


def test_beside_another_method_and_a_trained_module(tmp_path: Path) -> None:
    text = """surg 1
    target layers { select path("inner.default")  loha { r = 2 } }
    target weights { select param("inner.lora_A.weight")  lora { r = 2 } }
    train { select path("inner.words") }
    """
    model = Outer().eval()
    plan = planned(model, text, x=X)
    adapted = surgery.apply(model, plan)
    randomise(adapted)
    after = adapted(X).detach()
    save_adapters(adapted, plan, tmp_path)
    again = surgery.apply(Outer().eval(), plan)
    for name in ("layers", "weights"):
        load_adapter(again, plan, tmp_path / name, adapter=name)
    assert torch.equal(again(X), after)
    alone = PeftModel.from_pretrained(Outer().eval(), tmp_path / "weights")
    assert layers_by_site(alone.get_base_model()).keys() == {"inner.lora_A.weight"}


def test_a_model_that_is_not_the_plans_is_left_alone() -> None:
    plan = planned(mixture("Mixtral"), SPEC, **IDS)
    model = mixture("Mixtral")
    experts = model.get_submodule("model.layers.0.mlp.experts")
    experts.gate_up_proj = nn.Parameter(experts.gate_up_proj.mT.contiguous())
    state = {name: id(module) for name, module in model.named_modules()}
    with pytest.raises(SurgeryError) as caught:
        surgery.apply(model, plan)
    [found] = caught.value.diagnostics
    assert found.code == "E0506"
    assert "has the shape [4, 32, 96], the plan says [4, 96, 32]" in found.notes[0]
    assert {name: id(module) for name, module in model.named_modules()} == state


def test_a_stack_of_one_that_is_held_the_other_way_round() -> None:
    class Bank(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stack = nn.Parameter(torch.randn(1, 4, 4))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x @ self.stack[0]

    def outer(*, turned: bool) -> nn.Module:
        bank = Bank()
        bank.is_transposed = turned
        return nn.Sequential(bank)

    plan = planned(
        outer(turned=False), 'surg 1\ntarget t { select param("0.stack")  lora { r = 2 } }', input=torch.ones(3, 4)
    )
    surgery.apply(outer(turned=False), plan)
    with pytest.raises(SurgeryError) as caught:
        surgery.apply(outer(turned=True), plan)
    [found] = caught.value.diagnostics
    assert (found.code, "the wrong way round" in found.message) == ("E0406", True)


@pytest.mark.heavy
def test_a_mixture_of_235_billion_is_planned_and_adapted_without_memory(tmp_path: Path) -> None:
    """PEFT makes target parameters of the names that checkpoints of version 4 had, two ranks for the fused pair."""
    sizes = {"hidden_size": 4096, "moe_intermediate_size": 1536, "num_hidden_layers": 94, "num_attention_heads": 64}
    sizes |= {"num_key_value_heads": 4, "head_dim": 128, "num_experts": 128, "vocab_size": 151936}
    text = f"""surg 1
    model transformers:Qwen3MoeForCausalLM {{
      config = transformers:AutoConfig.for_model {{
        model_type = "qwen3_moe"  {"  ".join(f"{name} = {size}" for name, size in sizes.items())}
      }}
    }}
    inputs {{ input_ids = i64[1, 8] < 151936 }}
    target attention {{ select path("**.self_attn.{{q,k,v,o}}_proj")  lora {{ r = 8  alpha = 16 }} }}
    target into {{ select param("**.experts.*") & role(feedforward_in)  lora {{ r = 16  alpha = 32 }} }}
    target out {{
      select param("**.experts.*") & role(feedforward_out) | param("**.mlp.gate.weight")
      lora {{ r = 8  alpha = 16 }}
    }}
    """
    spec = load_source(Source("test.surg", text), tmp_path / "test.surg", {})
    plan = surgery.plan(spec, capture_spec(spec))
    assert plan.applyable
    assert plan.totals.total == 235_093_634_560
    assert plan.totals.added == 1_950_627_840
    adapted = surgery.apply(on_meta(sizes), plan)
    names = ("q_proj", "k_proj", "v_proj", "o_proj", "gate", "gate_proj", "up_proj", "down_proj")
    config = LoraConfig(r=8, lora_alpha=16, target_modules=list(names))
    theirs = get_peft_model(on_meta(sizes), config, low_cpu_mem_usage=True)
    assert adapters_of(adapted) == adapters_of(theirs)
    assert all(parameter.is_meta for parameter in adapted.parameters())


def on_meta(sizes: dict[str, int]) -> nn.Module:
    config = transformers.AutoConfig.for_model("qwen3_moe", **sizes)
    with torch.device("meta"):
        return transformers.Qwen3MoeForCausalLM(config)


def adapters_of(model: nn.Module) -> dict[str, torch.Size]:
    return {name: parameter.shape for name, parameter in model.named_parameters() if "lora_" in name}


@pytest.mark.parametrize("name", MODELS)
def test_verified_and_exported_merged(name: str, tmp_path: Path) -> None:
    model = mixture(name)
    plan = planned(model, SPEC, **IDS)
    adapted = surgery.apply(model, plan)
    found = surgery.verify(adapted, plan, IDS)
    assert (found.identity.status, found.gradients.status, found.gradients.reached) == ("exact", "reached", 4)
    assert found.gradients.moved == found.merging.merged == 4
    assert not found.merging.skipped
    randomise(adapted)
    after = adapted(**IDS).logits.detach()
    surgery.export(adapted, plan, tmp_path / "peft", to="peft", inputs=IDS)
    surgery.export(adapted, plan, tmp_path / "merged", to="merged", inputs=IDS)
    plain = mixture(name)
    plain.load_state_dict(load_file(tmp_path / "merged" / "model.safetensors"))
    assert torch.allclose(plain(**IDS).logits, after, atol=1e-6)
