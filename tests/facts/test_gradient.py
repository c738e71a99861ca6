"""Whether the gradient of the output reaches a module, and what stops it."""

from __future__ import annotations

import torch
from torch import nn

import surgery
from surgery.graph import Graph


class GatedBranch(nn.Module):
    """`x + gate(t) * branch(x)`, then a head."""

    def __init__(self) -> None:
        super().__init__()
        self.gate, self.branch, self.head = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 4)
        self.embed = nn.Linear(4, 4)

    def forward(self, x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        x = self.embed(x)
        return self.head(x + self.gate(t)[:, None] * self.branch(x))


def capture(model: nn.Module) -> Graph:
    return surgery.capture(model, (torch.randn(2, 3, 4), torch.randn(2, 4)))


def answers(graph: Graph) -> dict[str, str]:
    return {path: module.gradient.answer for path, module in graph.modules.items() if path}


def agrees_with_autograd(model: nn.Module) -> dict[str, str]:
    """The fact for every module, after checking each against a real backward pass."""
    found = answers(capture(model))
    model(torch.randn(2, 3, 4), torch.randn(2, 4)).pow(2).sum().backward()
    for path, answer in found.items():
        weight = model.get_submodule(path).weight
        reached = weight.grad is not None and bool(weight.grad.any())
        assert reached == (answer == "yes"), path
    return found


def test_open_ways() -> None:
    assert set(agrees_with_autograd(GatedBranch()).values()) == {"yes"}


def test_a_zero_gate_closes_its_branch() -> None:
    model = GatedBranch()
    nn.init.zeros_(model.gate.weight)
    nn.init.zeros_(model.gate.bias)
    assert agrees_with_autograd(model) == {"gate": "yes", "branch": "no", "head": "yes", "embed": "yes"}
    assert "`gate` starts as zeros" in capture(model)["branch"].gradient.evidence


def test_a_gate_with_a_bias_is_open() -> None:
    model = GatedBranch()
    nn.init.zeros_(model.gate.weight)
    assert set(agrees_with_autograd(model).values()) == {"yes"}


def test_a_zero_head_closes_everything_before_it() -> None:
    model = GatedBranch()
    nn.init.zeros_(model.head.weight)
    # The loss is taken of the output itself, so the head's own weight gets a gradient; nothing before it does.
    with torch.no_grad():
        model.head.bias.fill_(1.0)
    assert agrees_with_autograd(model) == {"gate": "no", "branch": "no", "head": "yes", "embed": "no"}
    assert "`head` starts as zeros" in capture(model)["embed"].gradient.evidence


def test_a_gate_of_zeros_is_named_whatever_it_is_called() -> None:
    class Gated(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer, self.gate_bias = nn.Linear(4, 4), nn.Parameter(torch.zeros(4))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.layer(x) * self.gate_bias

    model = Gated()
    fact = surgery.capture(model, (torch.randn(2, 4),))["layer"].gradient
    assert fact.answer == "no"
    assert "the model itself starts as zeros" in fact.evidence
    model(torch.randn(2, 4)).sum().backward()
    assert not model.layer.weight.grad.any()
