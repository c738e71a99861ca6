"""Adapters that would not run, or not learn."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from surgery.planning.planner import Planned


def test_training_what_never_runs(plan_of: Callable[..., Planned]) -> None:
    (found,) = plan_of('train { select path("unused", "blocks.0.ff") }').diagnostics
    assert (found.code, found.message) == ("E0306", "`train` trains 1 module that never runs in the example call")


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("mha.out_proj", [("E0305", "mha.out_proj: its weight is read by multi_head_attention_forward;")]),
        ("unused", [("E0306", "unused: never called")]),
        ("experts.1", [("W0908", "experts.1: its siblings ran; toy.py:50 decides")]),
        ("experts.0", []),
        ("cut_off", [("W0906", "cut_off: every way out is multiplied by zero")]),
    ],
)
def test_findings(plan_of: Callable[..., Planned], path: str, expected: list[tuple[str, str]]) -> None:
    found: Any = plan_of(f'target t {{ select path("{path}") expect 1 lora {{ r = 2 alpha = 2 }} }}').diagnostics
    assert [diagnostic.code for diagnostic in found] == [code for code, _ in expected]
    for diagnostic, (_, note) in zip(found, expected, strict=True):
        assert diagnostic.notes[0].startswith(note)
        assert diagnostic.helps
