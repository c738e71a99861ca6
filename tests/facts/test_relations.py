"""Which modules feed which."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

import surgery
from surgery.facts import relations
from surgery.graph import Graph
from surgery.graph.file import read_graph

F5 = Path(__file__).parents[2] / "specs" / "f5_tts" / "f5_base.graph.json"


class Chain(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c, self.side = (nn.Linear(4, 4) for _ in range(4))
        self.norm = nn.LayerNorm(4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = self.norm(self.a(x).reshape(-1, 2, 4)).transpose(0, 1)
        return self.c(torch.relu(self.b(h))) + self.side(x)[:, None]


def chain() -> Graph:
    return surgery.capture(Chain(), (torch.randn(3, 2, 4).reshape(6, 4)[:2],))


def only(path: str) -> frozenset[str]:
    return frozenset([path])


def test_feeds_through_shapes_only() -> None:
    graph = chain()
    assert relations.feeds(graph, only("b")) == {"norm"}
    assert relations.feeds(graph, only("norm")) == {"a"}
    assert relations.feeds(graph, only("c")) == set()  # an activation lies between


def test_fed_by_is_the_other_way_round() -> None:
    graph = chain()
    for path in ("a", "b", "c", "norm", "side"):
        for other in relations.feeds(graph, only(path)):
            assert path in relations.fed_by(graph, only(other))
    assert relations.fed_by(graph, only("a")) == {"norm"}


def test_reaches_follows_any_path() -> None:
    graph = chain()
    assert relations.reaches(graph, only("c")) == {"a", "norm", "b"}
    assert relations.reached_by(graph, only("a")) == {"norm", "b", "c"}
    assert relations.reached_by(graph, only("side")) == set()


def test_a_real_model() -> None:
    graph = read_graph(F5)
    block = "transformer_blocks.3"
    assert f"{block}.attn_norm.linear" in relations.fed_by(graph, only(f"{block}.attn_norm.silu"))
    assert relations.feeds(graph, only(f"{block}.ff.ff.2")) >= {f"{block}.ff.ff.0", f"{block}.ff.ff.0.1"}
    assert "time_embed.time_mlp.0" in relations.reaches(graph, only(f"{block}.attn_norm.linear"))
    assert f"{block}.attn.to_q" not in relations.reaches(graph, only("time_embed.time_mlp.0"))
