"""The labels of the zoo, made by reading source, and what capture says beside them."""

from __future__ import annotations

import json
import re
from functools import cache
from pathlib import Path
from typing import Any

import torch
from architectures import ARCHITECTURES
from patterns import matching

import surgery
from surgery.graph import ROLES, Graph

FOLDER = Path(__file__).parent
REACH = [(fact, answer) for fact in ("bypassed", "unreached") for answer in ("yes", "unknown")]


@cache
def labels_of(name: str) -> dict[str, Any]:
    """`labels/NAME.json`."""
    return json.loads((FOLDER / "labels" / f"{name}.json").read_text(encoding="utf-8"))


@cache
def captured(name: str) -> Graph:
    """The graph of an architecture of the zoo, built with a fixed seed."""
    torch.manual_seed(0)
    model, call = ARCHITECTURES[name].build()
    return surgery.capture(model, kwargs=call)


def expected_and_found(name: str) -> dict[str, tuple[set[str], set[str]]]:
    """By role, and by `bypassed: yes` and the like: the modules that the labels name, and those that capture does."""
    graph, labels = captured(name), labels_of(name)
    assert labels["roles"].keys() == ROLES.keys()
    pairs = {}
    for role in ROLES:
        found = {path for path, module in graph.modules.items() if role in module.roles}
        pairs[role] = (matching(labels["roles"][role], graph), found)
    for fact, answer in REACH:
        found = {p for p, m in graph.modules.items() if m.parameters and getattr(m, fact).answer == answer}
        pairs[f"{fact}: {answer}"] = (matching(labels[fact][answer], graph), found)
    return pairs


def differences(name: str) -> dict[str, dict[str, list[str]]]:
    """What capture misses, and what it says that is `not so`; the numbers of blocks as `*`."""
    wrong = {}
    for what, (expected, found) in expected_and_found(name).items():
        if found != expected:
            wrong[what] = {"missed": _patterns(expected - found), "not so": _patterns(found - expected)}
    return wrong


def _patterns(paths: set[str]) -> list[str]:
    return sorted({re.sub(r"(?<=\.)\d+(?=\.)", "*", path) for path in paths})
