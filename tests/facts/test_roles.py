"""The roles that surround attention, branches and the model's ends, on real models.

Each expectation was read from the model's source, in the file named; patterns stand for every block.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import surgery
from surgery.graph import Graph

IDS = {"input_ids": torch.arange(12).reshape(2, 6)}
Case = tuple[nn.Module, dict[str, Any], dict[str, set[str]]]


def patterns(graph: Graph, role: str) -> set[str]:
    """The modules with a role, the numbers of blocks as `*`."""
    return {re.sub(r"(?<=\.)\d+(?=\.)", "*", p, count=1) for p, m in graph.modules.items() if role in m.roles}


def bert() -> Case:
    """transformers/models/bert/modeling_bert.py"""
    from transformers import BertConfig, BertModel

    model = BertModel(
        BertConfig(vocab_size=50, hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64)
    )
    layer = "encoder.layer.*"
    return (
        model,
        {**IDS, "token_type_ids": torch.zeros(2, 6, dtype=torch.long)},
        {
            "input_embedding": {"embeddings.word_embeddings"},
            "attention_query": {f"{layer}.attention.self.query"},
            "attention_key": {f"{layer}.attention.self.key"},
            "attention_value": {f"{layer}.attention.self.value"},
            "attention_output": {f"{layer}.attention.output.dense"},
            "feedforward_in": {f"{layer}.intermediate.dense"},
            "feedforward_out": {f"{layer}.output.dense"},
            "residual_output": {f"{layer}.attention.output.dense", f"{layer}.output.dense"},
            "norm": {"embeddings.LayerNorm", f"{layer}.attention.output.LayerNorm", f"{layer}.output.LayerNorm"},
            "output_head": {"pooler.dense"},
        },
    )


def llama() -> Case:
    """transformers/models/llama/modeling_llama.py; its RMSNorm is written out."""
    from transformers import LlamaConfig, LlamaForCausalLM

    sizes = {"vocab_size": 50, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2}
    layer = "model.layers.*"
    return (
        LlamaForCausalLM(LlamaConfig(**sizes, num_attention_heads=4, num_key_value_heads=2)),
        IDS,
        {
            "input_embedding": {"model.embed_tokens"},
            "attention_query": {f"{layer}.self_attn.q_proj"},
            "attention_key": {f"{layer}.self_attn.k_proj"},
            "attention_value": {f"{layer}.self_attn.v_proj"},
            "attention_output": {f"{layer}.self_attn.o_proj"},
            "feedforward_in": {f"{layer}.mlp.gate_proj", f"{layer}.mlp.up_proj"},
            "feedforward_out": {f"{layer}.mlp.down_proj"},
            "residual_output": {f"{layer}.self_attn.o_proj", f"{layer}.mlp.down_proj"},
            "norm": {f"{layer}.input_layernorm", f"{layer}.post_attention_layernorm", "model.norm"},
            "output_head": {"lm_head"},
        },
    )


def gpt2() -> Case:
    """transformers/models/gpt2/modeling_gpt2.py; one Conv1D makes queries, keys and values."""
    from transformers import GPT2Config, GPT2LMHeadModel

    block = "transformer.h.*"
    return (
        GPT2LMHeadModel(GPT2Config(vocab_size=50, n_embd=32, n_layer=2, n_head=2, bos_token_id=0, eos_token_id=0)),
        IDS,
        {
            "input_embedding": {"transformer.wte"},
            "attention_qkv": {f"{block}.attn.c_attn"},
            "attention_query": set(),
            "attention_output": {f"{block}.attn.c_proj"},
            "feedforward_in": {f"{block}.mlp.c_fc"},
            "feedforward_out": {f"{block}.mlp.c_proj"},
            "output_head": {"lm_head"},
        },
    )


def encoder() -> Case:
    """torch/nn/modules/transformer.py; all of an attention's weights go into one function."""
    layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)
    return (
        nn.TransformerEncoder(layer, 2, enable_nested_tensor=False),
        {"src": torch.randn(2, 5, 16)},
        {
            "attention_qkv": {"layers.*.self_attn"},
            "attention_output": {"layers.*.self_attn.out_proj"},
            "feedforward_in": {"layers.*.linear1"},
            "feedforward_out": {"layers.*.linear2"},
            "residual_output": {"layers.*.self_attn.out_proj", "layers.*.linear2"},
            "norm": {"layers.*.norm1", "layers.*.norm2"},
        },
    )


def flux() -> Case:
    """diffusers/models/transformers/transformer_flux.py; single blocks join attention and feed-forward."""
    from diffusers import FluxTransformer2DModel

    double, single = "transformer_blocks.*", "single_transformer_blocks.*"
    model = FluxTransformer2DModel(
        in_channels=16, num_layers=2, num_single_layers=2, attention_head_dim=16, num_attention_heads=2,
        joint_attention_dim=32, pooled_projection_dim=24, axes_dims_rope=(4, 4, 8),
    )  # fmt: skip
    inputs = {
        "hidden_states": torch.randn(2, 20, 16),
        "encoder_hidden_states": torch.randn(2, 7, 32),
        "pooled_projections": torch.randn(2, 24),
        "timestep": torch.rand(2),
        "img_ids": torch.zeros(20, 3),
        "txt_ids": torch.zeros(7, 3),
    }
    return (
        model,
        inputs,
        {
            "input_embedding": {"x_embedder", "context_embedder"},
            "attention_query": {f"{double}.attn.to_q", f"{double}.attn.add_q_proj", f"{single}.attn.to_q"},
            "attention_output": {f"{double}.attn.to_out.0", f"{double}.attn.to_add_out", f"{single}.proj_out"},
            "feedforward_in": {f"{double}.ff.net.0.proj", f"{double}.ff_context.net.0.proj", f"{single}.proj_mlp"},
            "feedforward_out": {f"{double}.ff.net.2", f"{double}.ff_context.net.2", f"{single}.proj_out"},
            "modulation": {
                f"{double}.norm1.linear",
                f"{double}.norm1_context.linear",
                f"{single}.norm.linear",
                "norm_out.linear",
            },
            "output_head": {"proj_out"},
        },
    )


@pytest.mark.parametrize("make", [bert, llama, gpt2, encoder, flux], ids=lambda make: make.__name__)
def test_real_models(make: Callable[[], Case]) -> None:
    model, inputs, expected = make()
    graph = surgery.capture(model, (), inputs)
    for role, paths in expected.items():
        assert patterns(graph, role) == paths, role
    assert all(evidence for module in graph.modules.values() for evidence in module.roles.values())


class WrittenOut(nn.Module):
    """An attention without a fused op, with a rotation of q and k, and a norm of each."""

    def __init__(self) -> None:
        super().__init__()
        self.q, self.k, self.v, self.o = (nn.Linear(8, 8) for _ in range(4))
        self.q_norm = nn.LayerNorm(8)

    def rotated(self, x: torch.Tensor) -> torch.Tensor:
        angle = torch.arange(x.shape[1])[:, None] * torch.ones(8)
        half = torch.cat([-x[..., 4:], x[..., :4]], dim=-1)
        return x * angle.cos() + half * angle.sin()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        scores = self.rotated(self.q_norm(self.q(x))) @ self.rotated(self.k(x)).transpose(1, 2) / 8**0.5
        scores = scores.masked_fill(torch.ones(5, 5).tril() == 0, -1e9)
        return x + self.o(F.dropout(scores.softmax(-1), training=False) @ self.v(x))


def test_attention_written_out() -> None:
    graph = surgery.capture(WrittenOut(), (torch.randn(2, 5, 8),))
    found = {p: set(m.roles) & {r for r in m.roles if r.startswith("attention")} for p, m in graph.modules.items()}
    assert found["q"] == {"attention_query"}
    assert found["k"] == {"attention_key"}
    assert found["v"] == {"attention_value"}
    assert found["o"] == {"attention_output"}
    assert "residual_output" in graph["o"].roles


def test_a_softmax_over_scores_of_experts_is_no_attention() -> None:
    class Router(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed, self.gate, self.experts = nn.Linear(8, 8), nn.Linear(8, 4), nn.Linear(8, 32)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = self.embed(x)
            weights, chosen = self.gate(x).softmax(-1).topk(2)
            made = self.experts(x).reshape(*x.shape[:-1], 4, 8).gather(-2, chosen[..., None].expand(-1, -1, -1, 8))
            return (weights[..., None] * made).sum(-2)

    graph = surgery.capture(Router(), (torch.randn(2, 5, 8),))
    assert set(graph["gate"].roles) == {"router"}
    assert not any(role.startswith("attention") for role in graph["experts"].roles)


class Expert(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.gate, self.up, self.down = nn.Linear(8, 16), nn.Linear(8, 16), nn.Linear(16, 8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.down(F.silu(self.gate(x)) * self.up(x))


class MixtureBlock(nn.Module):
    """Experts in a loop: each runs on the tokens routed to it, if there are any."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.router = nn.LayerNorm(8), nn.Linear(8, 6)
        self.experts = nn.ModuleList(Expert() for _ in range(6))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        tokens = self.norm(x).flatten(0, 1)
        weights, chosen = self.router(tokens).softmax(-1).topk(2)
        made = torch.zeros_like(tokens)
        for number, expert in enumerate(self.experts):
            row, column = torch.where(chosen == number)
            if row.numel():
                made.index_add_(0, row, expert(tokens[row]) * weights[row, column, None])
        return x + made.reshape(x.shape)


def test_experts_in_a_loop() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Embedding(10, 8), MixtureBlock(), MixtureBlock(), nn.Linear(8, 10))
    graph = surgery.capture(model, (torch.randint(0, 10, (1, 2)),))
    ran = [path for path, module in graph.modules.items() if module.kind == "Expert" and module.calls]
    idle = [path for path, module in graph.modules.items() if module.kind == "Expert" and not module.calls]
    assert ran
    assert idle
    for path in ran:
        assert "feedforward_in" in graph[f"{path}.gate"].roles
        assert "feedforward_in" in graph[f"{path}.up"].roles
        assert set(graph[f"{path}.down"].roles) == {"feedforward_out", "residual_output"}
    for path in idle:
        assert graph[f"{path}.down"].unreached.answer == "unknown"
        assert "feedforward_out" in graph[f"{path}.down"].unknown_roles
    assert set(graph["1.router"].roles) == {"router"}
    assert not any("modulation" in module.roles for module in graph.modules.values())
