"""Weights that are shared, or computed from others: refused while planning, or adapted so that merging is exact."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, parametrize

import surgery
from surgery.diagnostics import Source
from surgery.graph import Graph
from surgery.language import load_source
from surgery.planning.plan import Plan

X = torch.tensor([[1, 2, 3]])


class Symmetric(nn.Module):
    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        return weight.triu() + weight.triu(1).mT


class Model(nn.Module):
    """One of every way in which a weight is not a module's own."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.words = nn.Embedding(10, 16)
        self.head = nn.Linear(16, 10, bias=False)
        self.head.weight = self.words.weight
        self.once = nn.Sequential(nn.Linear(16, 16))
        self.again = self.once
        self.first, self.second, self.viewed = (nn.Linear(16, 16) for _ in range(3))
        self.second.weight = self.first.weight
        self.viewed.weight = nn.Parameter(self.first.weight.detach()[:])
        self.biased, self.lent = nn.Linear(16, 16), nn.Linear(16, 16)
        self.lent.bias = self.biased.bias
        self.hooked = nn.utils.weight_norm(nn.Linear(16, 16))
        self.normed = parametrizations.weight_norm(nn.Linear(16, 16))
        self.symmetric = nn.Linear(16, 16)
        parametrize.register_parametrization(self.symmetric, "weight", Symmetric())
        self.shifted = nn.Linear(16, 16)
        parametrize.register_parametrization(self.shifted, "bias", nn.Identity())
        self.orthogonal = parametrizations.orthogonal(nn.Linear(16, 16))
        self.spectral = nn.utils.spectral_norm(nn.Linear(16, 16))
        self.free = nn.Linear(16, 16)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        hidden = self.words(x)
        for name, layer in self.named_children():
            if name not in ("words", "head"):
                hidden = layer(hidden)
        return self.head(self.again(hidden))


@cache
def graph() -> Graph:
    return surgery.capture(Model().eval(), kwargs={"x": X})


def plan_of(text: str) -> Plan:
    return surgery.plan(load_source(Source("test.surg", f"surg 1\n{text}"), Path("test.surg"), {}), graph())


def errors(text: str) -> list[tuple[str, tuple[str, ...], tuple[str, ...]]]:
    found = [finding for finding in plan_of(text).diagnostics if finding.severity == "error"]
    return [(finding.code, tuple(finding.notes), tuple(finding.helps)) for finding in found]


def target(select: str) -> str:
    return f"target t {{ select {select}  lora {{ r = 2 }} }}"


@pytest.mark.parametrize(
    ("path", "shares"),
    [
        ("words", "head"),
        ("head", "words"),
        ("once.0", "again.0"),
        ("first", "second, viewed"),
        ("second", "first, viewed"),
        ("viewed", "first, second"),
        ("biased", "lent"),
    ],
)
def test_shared_storage_is_refused(path: str, shares: str) -> None:
    trained = target('path("free")') + f'train {{ select path("{path}") }}'
    for text in (target(f'path("{path}")'), trained):
        [(code, notes, _)] = errors(text)
        assert (code, notes) == ("E0307", (f"{path} shares storage with {shares}",))


@pytest.mark.parametrize("path", ["words", "once.0", "first", "viewed"])
def test_a_shared_parameter_is_refused(path: str) -> None:
    [(code, notes, _)] = errors(target(f'param("{path}.weight")'))
    assert code == "E0307"
    assert notes[0].startswith(f"{path}.weight shares storage with ")


@pytest.mark.parametrize("select", ['path("again.0")', 'param("again.0.weight")'])
def test_the_second_place_of_a_module_is_named(select: str) -> None:
    [(code, _, helps)] = errors(target(select))
    assert (code, helps) == ("E0201", ("`again.0` is the same module as `once.0`, and goes by that path",))


@pytest.mark.parametrize("path", ["hooked", "normed", "symmetric", "orthogonal", "spectral"])
def test_a_computed_weight_is_refused(path: str) -> None:
    [(code, _, [help])] = errors(target(f'path("{path}")'))
    assert code == "E0404"
    assert "remove_parametrizations" in help


@pytest.mark.parametrize(
    "path",
    ["normed.parametrizations.weight.original1", "symmetric.parametrizations.weight.original", "shifted.weight"],
)
def test_a_parameter_of_a_parametrised_module_is_refused(path: str) -> None:
    [(code, _, _)] = errors(target(f'param("{path}")'))
    assert code == "E0404"


@pytest.mark.parametrize(
    "select",
    [
        'path("shifted")',  # its bias is computed, its weight is not
        'param("lent.weight")',  # its bias is shared, its weight is not
        'param("hooked.weight_v")',  # the weight is computed from it before each call
        'param("spectral.weight_orig")',
    ],
)
def test_what_is_adapted_beside_them_merges_exactly(select: str) -> None:
    plan = plan_of(target(select))
    assert plan.applyable, errors(target(select))
    model = Model().eval()
    before = model(X)
    adapted = surgery.apply(model, plan)
    assert torch.equal(adapted(X), before)
    with torch.no_grad():
        for parameter in filter(lambda p: p.requires_grad, adapted.parameters()):
            parameter.copy_(0.1 * torch.randn_like(parameter))
    after: Any = adapted(X).detach()
    assert not torch.allclose(after, before)
    assert torch.allclose(adapted.merge_and_unload()(X), after, atol=1e-5)
