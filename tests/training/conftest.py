"""The small project that training is tested on: a BERT, its spec, its tasks."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

import surgery

PROJECT = Path(__file__).parent / "project"


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> Iterator[None]:
    """Threads that wait for each other on a busy machine take far longer than so small a model."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def tiny() -> Iterator[ModuleType]:
    """The project's module: `tiny.build()`, `tiny.Unmask`."""
    sys.path.insert(0, str(PROJECT))
    try:
        yield importlib.import_module("tiny")
    finally:
        sys.path.remove(str(PROJECT))
        del sys.modules["tiny"]


@pytest.fixture(scope="session")
def graph(tiny: ModuleType) -> surgery.Graph:
    args, kwargs = tiny.example()
    return surgery.capture(tiny.build(), args, kwargs)


@pytest.fixture(scope="session")
def make_plan(graph: surgery.Graph) -> Any:
    """`make_plan(rank=8)`: the plan of `tiny.surg` with these params."""
    return lambda **params: applyable(surgery.plan(surgery.load(PROJECT / "tiny.surg", **params), graph))


@pytest.fixture
def plan_of(graph: surgery.Graph, tmp_path: Path) -> Any:
    """`plan_of(old, new)`: the plan of `tiny.surg` with a part of its text replaced."""

    def plan(old: str, new: str) -> surgery.Plan:
        text = (PROJECT / "tiny.surg").read_text()
        assert old in text
        (tmp_path / "other.surg").write_text(text.replace(old, new))
        return applyable(surgery.plan(surgery.load(tmp_path / "other.surg"), graph))

    return plan


def applyable(plan: surgery.Plan) -> surgery.Plan:
    assert plan.applyable, plan.diagnostics
    return plan


@pytest.fixture(scope="session")
def plan(make_plan: Any) -> surgery.Plan:
    """The plan of `tiny.surg`: two LoRA adapters on 6 sites, a norm trained in full, a block checkpointed."""
    return make_plan()
