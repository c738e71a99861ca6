"""Every fact of the zoo against labels that were made by reading the models' source."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from architectures import ARCHITECTURES

import surgery
from surgery.graph import ROLES, Graph

LABELS = Path(__file__).parent / "labels"
pytestmark = pytest.mark.heavy
each_architecture = pytest.mark.parametrize("name", ARCHITECTURES)


@cache
def labels_of(name: str) -> dict[str, Any]:
    return json.loads((LABELS / f"{name}.json").read_text(encoding="utf-8"))


@cache
def captured(name: str) -> Graph:
    torch.manual_seed(0)
    model, call = ARCHITECTURES[name].build()
    return surgery.capture(model, kwargs=call)


def matching(patterns: Iterable[str], names: Iterable[str]) -> set[str]:
    """The names that patterns stand for, `*` being one segment; each has to match one."""
    known, found = list(names), set()
    for pattern in patterns:
        expression = re.compile(re.escape(pattern).replace(r"\*", r"[^.]+"))
        matches = {name for name in known if expression.fullmatch(name)}
        assert matches, f"`{pattern}` matches nothing"
        found |= matches
    return found


@each_architecture
def test_roles(name: str) -> None:
    graph, labels = captured(name), labels_of(name)["roles"]
    assert labels.keys() == ROLES.keys()
    wrong = {}
    for role in ROLES:
        expected = matching(labels[role], graph)
        found = {path for path, module in graph.modules.items() if role in module.roles}
        if found != expected:
            wrong[role] = {"missed": sorted(expected - found), "not so": sorted(found - expected)}
    assert not wrong


@each_architecture
@pytest.mark.parametrize("fact", ["bypassed", "unreached"])
def test_reach(name: str, fact: str) -> None:
    graph, labels = captured(name), labels_of(name)[fact]
    for answer in ("yes", "unknown"):
        expected = matching(labels[answer], graph)
        found = {p for p, m in graph.modules.items() if m.parameters and getattr(m, fact).answer == answer}
        assert found == expected, answer
