"""Capturing live models: on fake tensors, on real ones where needed, and without a trace left behind."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from transformers import BertConfig, BertModel, LlamaConfig, LlamaForCausalLM

import surgery
from surgery.diagnostics import SurgeryError


def small_bert(**settings: Any) -> BertModel:
    sizes = {"vocab_size": 50, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    return BertModel(BertConfig(**{**sizes, "intermediate_size": 64, **settings}))


IDS = {"input_ids": torch.arange(12).reshape(2, 6)}


def test_the_model_is_left_as_it_was() -> None:
    model = small_bert()
    model.train()
    model.pooler.eval()
    before = {name: (id(p), p._version, p.requires_grad) for name, p in model.named_parameters()}
    buffers = {name: id(b) for name, b in model.named_buffers()}
    modes = {name: module.training for name, module in model.named_modules()}
    state = torch.random.get_rng_state()
    surgery.capture(model, (), IDS)
    assert {name: (id(p), p._version, p.requires_grad) for name, p in model.named_parameters()} == before
    assert {name: id(b) for name, b in model.named_buffers()} == buffers
    assert {name: module.training for name, module in model.named_modules()} == modes
    assert all("forward" not in module.__dict__ for module in model.modules())
    assert torch.equal(torch.random.get_rng_state(), state)
    assert all(p.grad is None for p in model.parameters())


def test_a_meta_model_and_a_real_one_have_the_same_ops() -> None:
    with torch.device("meta"):
        meta = small_bert()
    on_meta, real = surgery.capture(meta, (), IDS), surgery.capture(small_bert(), (), IDS)
    assert [n.op for n in on_meta.nodes] == [n.op for n in real.nodes]
    assert {p: m.roles for p, m in on_meta.modules.items()} == {p: m.roles for p, m in real.modules.items()}


def test_a_model_larger_than_memory() -> None:
    """Llama 3.1 405B's width and 4 of its blocks on meta: 13 G parameters, captured without one of them."""
    config = LlamaConfig(
        vocab_size=128256,
        hidden_size=16384,
        intermediate_size=53248,
        num_hidden_layers=4,
        num_attention_heads=128,
        num_key_value_heads=8,
    )
    with torch.device("meta"):
        model = LlamaForCausalLM(config)
    graph = surgery.capture(model, (), {"input_ids": torch.zeros(1, 8, dtype=torch.long)})
    assert graph.parameters > 13e9
    assert graph["model.layers.3.mlp.down_proj"].roles.keys() == {"feedforward_out", "residual_output"}


class DependsOnValues(nn.Module):
    """Routes by value, as a mixture of experts written as a loop does."""

    def __init__(self) -> None:
        super().__init__()
        self.experts = nn.ModuleList([nn.Sequential(nn.Linear(4, 4)) for _ in range(3)])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.experts[int(x.sum() > 0)](x)


def test_control_flow_on_values_runs_on_real_tensors() -> None:
    graph = surgery.capture(DependsOnValues(), (torch.ones(2, 4),))
    assert graph["experts.1.0"].calls == 1
    assert graph["experts.0"].unreached.answer == "unknown"
    assert "its sibling `experts.1` ran" in graph["experts.0.0"].unreached.evidence


def test_control_flow_on_values_of_a_meta_model_is_refused() -> None:
    with torch.device("meta"):
        model = DependsOnValues()
    with pytest.raises(SurgeryError) as raised:
        surgery.capture(model, (torch.ones(2, 4),))
    [found] = raised.value.diagnostics
    assert found.code == "E0508"
    assert "depends on values" in found.notes[0]
    assert "test_capture.py:" in (found.place or "")


def test_a_call_that_fails_says_where() -> None:
    with pytest.raises(SurgeryError) as raised:
        surgery.capture(small_bert(), (), {"input_id": IDS["input_ids"]})
    [found] = raised.value.diagnostics
    assert found.code == "E0508"
    assert "input_id" in found.notes[0]


def test_an_unreached_module() -> None:
    class Unused(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.used, self.unused = nn.Linear(2, 2), nn.Sequential(nn.Linear(2, 2))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.used(x)

    graph = surgery.capture(Unused(), (torch.randn(1, 2),))
    assert {p for p, m in graph.modules.items() if m.unreached.answer == "yes"} == {"unused", "unused.0"}
    assert not graph["unused.0"].roles


def test_multihead_attention_is_bypassed_at_its_output() -> None:
    model = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)
    graph = surgery.capture(model, (torch.randn(2, 5, 16),))
    out = graph["self_attn.out_proj"]
    assert out.calls == 0
    assert out.bypassed.answer == "yes"
    assert "multi_head_attention_forward in the forward of `self_attn`" in out.bypassed.evidence
    assert out.unreached.answer == "no"
    assert [p for p, m in graph.modules.items() if m.bypassed.answer == "yes"] == ["self_attn.out_proj"]


def test_a_weight_read_by_its_parent_is_bypassed() -> None:
    class Reads(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.proj = nn.Linear(4, 4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return nn.functional.linear(x, self.proj.weight.t())

    graph = surgery.capture(Reads(), (torch.randn(1, 4),))
    assert graph["proj"].bypassed.answer == "yes"
    assert "`weight` is read by t in the forward of the model itself" in graph["proj"].bypassed.evidence


def test_a_buffer_read_by_its_parent_is_no_bypass() -> None:
    class Table(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.randn(4, 4))
            self.register_buffer("ids", torch.arange(4))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x @ self.weight

    class Reads(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table = Table()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.table(x) + self.table.ids

    assert surgery.capture(Reads(), (torch.randn(1, 4),))["table"].bypassed.answer == "no"


def test_tied_weights_are_no_bypass() -> None:
    config = LlamaConfig(
        vocab_size=50, hidden_size=32, intermediate_size=64, num_hidden_layers=1, num_attention_heads=2,
        num_key_value_heads=2, tie_word_embeddings=True,
    )  # fmt: skip
    graph = surgery.capture(LlamaForCausalLM(config), (), IDS)
    assert graph["lm_head"].tied == ("model.embed_tokens",)
    assert graph["model.embed_tokens"].tied == ("lm_head",)
    assert graph["model.embed_tokens"].bypassed.answer == "no"
    assert "output_head" in graph["lm_head"].roles
    assert "output_head" not in graph["model.embed_tokens"].roles


def test_one_module_in_two_places() -> None:
    class Shared(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one = nn.Linear(4, 4)
            self.two = self.one

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.two(self.one(x))

    graph = surgery.capture(Shared(), (torch.randn(1, 4),))
    assert graph["one"].calls == 2
    assert graph["one"].tied == ("two",)
    assert "two" not in graph


def test_parameters_side_by_side_in_one_storage_are_not_tied() -> None:
    model = nn.Sequential(nn.Linear(4, 4, bias=False), nn.Linear(4, 4, bias=False))
    both = torch.randn(2, 4, 4)
    for layer, part in zip(model, both, strict=True):
        layer.weight = nn.Parameter(part)
        layer.weight.data = part  # as `nn.LSTM.flatten_parameters` lays them
    graph = surgery.capture(model, (torch.randn(1, 4),))
    assert graph.parameters == 32
    assert not graph["0"].tied


def test_a_parametrised_weight_stays_its_modules_own() -> None:
    model = nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(4, 4)), nn.ReLU())
    graph = surgery.capture(model, (torch.randn(1, 4),))
    assert all(m.bypassed.answer == "no" for m in graph.modules.values())


def test_live_values_tell_zeros_only() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    nn.init.zeros_(model[1].weight)
    graph = surgery.capture(model, (torch.randn(1, 4),))
    assert graph["1"].init["weight"].value == "zero"
    assert graph["0"].init["weight"].value == "unknown"
    assert graph["1"].init["bias"].value == "unknown"


def test_header_holds_versions() -> None:
    versions = surgery.capture(small_bert(), (), IDS).header.versions
    assert versions["torch"] == torch.__version__.partition("+")[0]
    assert "transformers" in versions
