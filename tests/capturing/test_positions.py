"""What is drawn and worked out where code asks a fake tensor for positions, at sizes that no memory holds."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import surgery

WIDTH, EXPERTS, PICKS = 2**20, 16, 2  # a square weight of this width has 4 TB


class Experts(nn.Module):
    """A router picks experts for each token; a loop runs on those that were picked."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(WIDTH, WIDTH)
        self.router = nn.Linear(WIDTH, EXPERTS)
        self.experts = nn.ModuleList(
            nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.ReLU(), nn.Linear(WIDTH, WIDTH)) for _ in range(EXPERTS)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.embed(x)
        weights, picked = self.router(x).softmax(-1).topk(PICKS)
        out = torch.zeros_like(x)
        for expert in picked.unique().tolist():
            token, rank = torch.where(picked == expert)
            out[token] += self.experts[expert](x[token]) * weights[token, rank, None]
        return x + out


class Masked(nn.Module):
    """A layer for the tokens that a known mask takes, up to a known length."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(WIDTH, WIDTH)

    def forward(self, x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        return self.layer(x[mask.bool()])[: mask.sum()].repeat_interleave(torch.tensor([1, 2, 1]), dim=0)


def on_meta(kind: type[nn.Module]) -> nn.Module:
    with torch.device("meta"):
        return kind()


def test_some_experts_run_and_the_others_are_unknown() -> None:
    tokens = 3
    graph = surgery.capture(on_meta(Experts), (torch.randn(tokens, 1).expand(tokens, WIDTH),))
    answers = [graph[f"experts.{number}.0"].unreached.answer for number in range(EXPERTS)]
    assert "yes" not in answers
    assert PICKS <= answers.count("no") <= tokens * PICKS
    assert set(graph["router"].roles) == {"router"}
    ran = [f"experts.{number}" for number in range(EXPERTS) if answers[number] == "no"]
    assert all("feedforward_in" in graph[f"{path}.0"].roles for path in ran)
    assert all("feedforward_out" in graph[f"{path}.2"].roles for path in ran)


def test_the_same_are_drawn_each_time() -> None:
    call = (torch.randn(3, 1).expand(3, WIDTH),)
    assert surgery.capture(on_meta(Experts), call).fingerprint == surgery.capture(on_meta(Experts), call).fingerprint


def test_a_known_mask_says_how_many_values_it_takes() -> None:
    mask = torch.tensor([1, 0, 1, 1])
    graph = surgery.capture(on_meta(Masked), (torch.randn(4, 1).expand(4, WIDTH), mask))
    shapes = {node.op: node.shape for node in graph.nodes}
    assert shapes["linear"] == (3, WIDTH)
    assert shapes["repeat_interleave"] == (4, WIDTH)


def test_where_values_of_features_decide_the_diagnostic_says_so() -> None:
    class Asks(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(WIDTH, 4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = F.relu(self.layer(x))
            return y if y.sum() > 1 else -y

    with pytest.raises(surgery.SurgeryError, match="depends on values") as raised:
        surgery.capture(on_meta(Asks), (torch.randn(2, 1).expand(2, WIDTH),))
    assert [found.code for found in raised.value.diagnostics] == ["E0508"]
