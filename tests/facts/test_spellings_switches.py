"""Branches that an example call leaves out: what decides whether another call would take them.

Each expectation was read from the definition of the facts.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import surgery
from surgery.graph import Graph

BATCH, TOKENS, WIDTH = 3, 5, 8


def captured(model: nn.Module) -> Graph:
    return surgery.capture(model, (torch.randn(BATCH, TOKENS, WIDTH),))


class Switched(nn.Module):
    """`extra` does not run in the example call; subclasses say what decides."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH)
        self.extra = nn.Linear(WIDTH, WIDTH)
        self.extras = nn.ModuleDict({"a": nn.Linear(WIDTH, WIDTH), "b": nn.Linear(WIDTH, WIDTH)})
        self.config = SimpleNamespace(use_extra=False, kind="plain")
        self.use_extra, self.missing = False, None


class ByArgument(Switched):
    def forward(self, x: Tensor, flag: bool = False) -> Tensor:
        if flag:
            x = self.extra(x)
        return self.last(x)


class ByNone(Switched):
    def forward(self, x: Tensor, other: Tensor | None = None) -> Tensor:
        if other is not None:
            x = x + self.extra(other)
        return self.last(x)


class ByTernary(Switched):
    def forward(self, x: Tensor, other: Tensor | None = None) -> Tensor:
        return self.last(x if other is None else self.extra(x))


class ByAnd(Switched):
    def forward(self, x: Tensor, flag: bool = False) -> Tensor:
        made = flag and self.extra(x)
        return self.last(x if made is False else made)


class ByTraining(Switched):
    def forward(self, x: Tensor) -> Any:
        return (self.last(x), self.extra(x)) if self.training else self.last(x)


class ByEarlyReturn(Switched):
    def forward(self, x: Tensor, return_all: bool = False) -> Any:
        made = self.last(x)
        if not return_all:
            return made
        return made, self.extra(made)


class ByShape(Switched):
    def forward(self, x: Tensor) -> Tensor:
        if x.shape[1] > 100:
            x = self.extra(x)
        return self.last(x)


class ByMethod(Switched):
    def forward(self, x: Tensor, mode: str = "plain") -> Tensor:
        return self.last(self.changed(x, mode))

    def changed(self, x: Tensor, mode: str) -> Tensor:
        if mode == "rich":
            return self.extra(x)
        return x


class ByMatch(Switched):
    def forward(self, x: Tensor, mode: str = "plain") -> Tensor:
        match mode:
            case "rich":
                x = self.extra(x)
            case _:
                pass
        return self.last(x)


class ByLoop(Switched):
    def forward(self, x: Tensor, times: int = 0) -> Tensor:
        for _ in range(times):
            x = self.extra(x)
        return self.last(x)


SWITCHED = [
    ByArgument,
    ByNone,
    ByTernary,
    ByAnd,
    ByTraining,
    ByEarlyReturn,
    ByShape,
    ByMethod,
    ByMatch,
    ByLoop,
]


@pytest.mark.parametrize("kind", SWITCHED)
def test_a_branch_that_the_call_switches_is_unknown(kind: type[Switched]) -> None:
    graph = captured(kind().eval())
    assert graph["extra"].unreached.answer == "unknown"
    assert "test_spellings_switches.py:" in graph["extra"].unreached.evidence
    assert graph["extra"].unknown_roles
    assert graph["extras.a"].unreached.answer == "yes"


class ByKey(Switched):
    """A module for each task, which the call names."""

    def forward(self, x: Tensor, task: str = "a") -> Tensor:
        return self.last(self.extras[task](x))


def test_a_module_that_the_call_names_is_unknown() -> None:
    graph = captured(ByKey())
    assert graph["extras.a"].unreached.answer == "no"
    assert graph["extras.b"].unreached.answer == "unknown"


class ByConfig(Switched):
    def forward(self, x: Tensor) -> Tensor:
        if self.config.use_extra:
            x = self.extra(x)
        return self.last(x)


class ByConfigKind(Switched):
    def forward(self, x: Tensor) -> Tensor:
        return self.last(x if self.config.kind == "plain" else self.extra(x))


class ByMissingModule(Switched):
    def forward(self, x: Tensor, flag: bool = False) -> Tensor:
        if self.missing is not None and flag:
            x = self.missing(self.extra(x))
        return self.last(x)


class Never(Switched):
    def forward(self, x: Tensor) -> Tensor:
        return self.last(x)


@pytest.mark.parametrize("kind", [ByConfig, ByConfigKind, ByMissingModule, Never])
def test_a_branch_that_the_model_decides_is_unreached(kind: type[Switched]) -> None:
    graph = captured(kind())
    assert graph["extra"].unreached.answer == "yes"
    assert not graph["extra"].roles
    assert not graph["extra"].unknown_roles
