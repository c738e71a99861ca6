"""Modulation and conditioning: what counts, and what looks like it and is none."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import surgery
from surgery.graph import Graph

WIDTH, TOKENS = 16, 6


def roles(graph: Graph, role: str) -> set[str]:
    return {path for path, module in graph.modules.items() if role in module.roles}


def captured(model: nn.Module, **inputs: torch.Tensor) -> Graph:
    return surgery.capture(model, (), inputs)


def tokens() -> torch.Tensor:
    return torch.randn(2, TOKENS, WIDTH)


def vector() -> torch.Tensor:
    return torch.randn(2, WIDTH)


class Conditioned(nn.Module):
    """A stream with one branch, and a vector through a small network; subclasses say how they meet."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(WIDTH, WIDTH)
        self.time = nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.SiLU(), nn.Linear(WIDTH, WIDTH))
        self.norm = nn.LayerNorm(WIDTH)
        self.make = nn.Linear(WIDTH, 3 * WIDTH)
        self.branch = nn.Linear(WIDTH, WIDTH)
        self.head = nn.Linear(WIDTH, WIDTH)

    def forward(self, x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        return self.head(self.meet(self.embed(x), self.time(t)))

    def meet(self, x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        raise AssertionError("each case has its own")


class ScaleShiftGate(Conditioned):
    def meet(self, x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        scale, shift, gate = self.make(F.silu(t))[:, None].chunk(3, dim=-1)
        return x + gate * self.branch(self.norm(x) * (1 + scale) + shift)


class PerToken(Conditioned):
    """The vector has every token's own value: shapes do not tell stream and modulator apart."""

    def meet(self, x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        scale, shift, gate = self.make(F.silu(t)).chunk(3, dim=-1)
        return x + gate * self.branch(self.norm(x) * (1 + scale) + shift)


class FusedAddcmul(Conditioned):
    def meet(self, x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        scale, shift, gate = self.make(F.silu(t))[:, None].chunk(3, dim=-1)
        return torch.addcmul(x, gate, self.branch(torch.addcmul(shift, self.norm(x), 1 + scale)))


class TanhGate(Conditioned):
    def meet(self, x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        return x + self.make(t)[:, None, :WIDTH].tanh() * self.branch(self.norm(x))


class WithTable(Conditioned):
    """PixArt's way: one projection for all blocks, to which each adds a table of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.randn(3, WIDTH))

    def meet(self, x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        scale, shift, gate = (self.table[None] + self.make(F.silu(t)).reshape(2, 3, WIDTH)).unsqueeze(2).unbind(1)
        return x + gate * self.branch(self.norm(x) * (1 + scale) + shift)


@pytest.mark.parametrize("kind", [ScaleShiftGate, FusedAddcmul, TanhGate, WithTable])
def test_a_projection_of_a_vector_that_scales_a_stream(kind: type[Conditioned]) -> None:
    graph = captured(kind(), x=tokens(), t=vector())
    assert roles(graph, "modulation") == {"make"}
    assert roles(graph, "conditioning") == {"time.0", "time.2"}


def test_modulation_by_token() -> None:
    graph = captured(PerToken(), x=tokens(), t=torch.randn(2, TOKENS, WIDTH))
    assert roles(graph, "modulation") == {"make"}
    assert roles(graph, "conditioning") == {"time.0", "time.2"}


class MerelyAdded(Conditioned):
    def meet(self, x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        return self.branch(self.norm(x)) + self.make(t)[:, None, :WIDTH]


class AlsoElsewhere(Conditioned):
    """The same projection scales the stream and is a part of the output."""

    def meet(self, x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        made = self.make(t)[:, None, :WIDTH]
        return torch.cat([self.norm(x) * (1 + made), made], dim=1)


class GatedUnit(Conditioned):
    """A GLU: both factors come from the stream, position by position. The time is not used."""

    def meet(self, x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        h = self.norm(x)
        return x + self.branch(h) * F.silu(self.make(h)[..., :WIDTH])


class SqueezeAndExcite(Conditioned):
    def meet(self, x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        return x * torch.sigmoid(self.make(x.mean(1, keepdim=True))[..., :WIDTH])


class OutputGate(Conditioned):
    """An attention whose result is gated by a projection of its own input, a factor for each position."""

    def meet(self, x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        h = self.norm(x)
        out = F.scaled_dot_product_attention(h[:, None], h[:, None], self.branch(h)[:, None])[:, 0]
        return x + out * torch.sigmoid(self.make(h)[..., :1])


class HeadGate(Conditioned):
    """A gate for each head, computed from the attention's own input."""

    def meet(self, x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        h = self.norm(x)
        q = self.branch(h).reshape(2, TOKENS, 4, 4).transpose(1, 2)
        gate = torch.sigmoid(self.make(h)[..., :4])[..., None]
        return x + (F.scaled_dot_product_attention(q, q, q).transpose(1, 2) * gate).flatten(2)


@pytest.mark.parametrize("kind", [HeadGate, MerelyAdded, AlsoElsewhere, GatedUnit, SqueezeAndExcite, OutputGate])
def test_what_is_no_modulation(kind: type[Conditioned]) -> None:
    graph = captured(kind(), x=tokens(), t=vector())
    assert roles(graph, "modulation") == set()
    assert roles(graph, "conditioning") == set()


class Masked(nn.Module):
    """A mask multiplies the embedding's result: the mask is no stream, the embedding no modulator."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.out = nn.Embedding(9, WIDTH), nn.Linear(WIDTH, WIDTH)

    def forward(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        return self.out(self.embed(ids) * mask[..., None])


def test_a_mask_is_no_stream() -> None:
    ids = torch.randint(0, 9, (2, TOKENS))
    graph = captured(Masked(), ids=ids, mask=torch.ones(2, TOKENS))
    assert not roles(graph, "modulation")


def test_evidence_can_be_followed() -> None:
    graph = captured(ScaleShiftGate(), x=tokens(), t=vector())
    evidence = graph["make"].roles["modulation"]
    path, _, place = evidence.rpartition("; ")
    assert path.startswith("silu -> linear -> chunk(3) -> ")
    file, _, line = place.rpartition(":")
    assert file.endswith("test_modulation.py")
    source = open(__file__, encoding="utf-8").read().splitlines()[int(line) - 1]  # noqa: SIM115, PTH123
    assert "gate * self.branch" in source


def dit() -> tuple[nn.Module, dict[str, Any], set[str], set[str]]:
    from f5_tts.model import DiT

    model = DiT(dim=32, depth=2, heads=2, dim_head=16, ff_mult=2, text_dim=16, conv_layers=1)
    inputs = {"x": torch.randn(2, 9, 100), "cond": torch.randn(2, 9, 100), "text": torch.ones(2, 5).long()}
    modulation = {f"transformer_blocks.{i}.attn_norm.linear" for i in range(2)} | {"norm_out.linear"}
    return model, {**inputs, "time": torch.rand(2)}, modulation, {"time_embed.time_mlp.0", "time_embed.time_mlp.2"}


def unett() -> tuple[nn.Module, dict[str, Any], set[str], set[str]]:
    """The time is a token of the sequence here: nothing modulates (f5_tts/model/backbones/unett.py, forward)."""
    from f5_tts.model import UNetT

    model = UNetT(dim=32, depth=2, heads=2, dim_head=16, ff_mult=2, text_dim=16, conv_layers=1)
    return model, dit()[1], set(), set()


def sd3() -> tuple[nn.Module, dict[str, Any], set[str], set[str]]:
    from diffusers import SD3Transformer2DModel

    model = SD3Transformer2DModel(
        sample_size=8, num_layers=2, attention_head_dim=8, num_attention_heads=4, joint_attention_dim=32,
        caption_projection_dim=32, pooled_projection_dim=16, pos_embed_max_size=16, in_channels=4,
    )  # fmt: skip
    inputs = {
        "hidden_states": torch.randn(2, 4, 8, 8),
        "encoder_hidden_states": torch.randn(2, 7, 32),
        "pooled_projections": torch.randn(2, 16),
        "timestep": torch.rand(2),
    }
    blocks = {f"transformer_blocks.{i}.{norm}.linear" for i in range(2) for norm in ("norm1", "norm1_context")}
    embedders = [f"time_text_embed.{e}.linear_{i}" for e in ("timestep_embedder", "text_embedder") for i in (1, 2)]
    return model, inputs, blocks | {"norm_out.linear"}, set(embedders)


def llama() -> tuple[nn.Module, dict[str, Any], set[str], set[str]]:
    from transformers import LlamaConfig, LlamaForCausalLM

    sizes = {"vocab_size": 50, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2}
    model = LlamaForCausalLM(LlamaConfig(**sizes, num_attention_heads=2, num_key_value_heads=2))
    return model, {"input_ids": torch.arange(12).reshape(2, 6)}, set(), set()


@pytest.mark.parametrize("make", [dit, unett, sd3, llama], ids=lambda make: make.__name__)
def test_real_models(make: Any) -> None:
    model, inputs, modulation, conditioning = make()
    graph = captured(model, **inputs)
    assert roles(graph, "modulation") == modulation
    assert roles(graph, "conditioning") == conditioning
