"""Fixtures of the tests of facts."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
from torch import nn

import surgery

RolesOf = Callable[..., dict[str, str]]


@pytest.fixture
def roles_of() -> RolesOf:
    """`roles_of(model, *args, **kwargs)`: every module with a role, a block's number as `*`, and its roles in a line.

    Every block of a family has the same roles, or the test fails. A container that calls a functional norm itself is
    left out: whether such a block is a norm is no matter of spelling.
    """

    def found(model: nn.Module, *args: Any, **kwargs: Any) -> dict[str, str]:
        roles: dict[str, str] = {}
        for path, module in surgery.capture(model, args, kwargs).modules.items():
            has_children = any(True for _ in model.get_submodule(path).children())
            named = " ".join(sorted(role for role in module.roles if not (has_children and role == "norm")))
            pattern = re.sub(r"(?<=\.)\d+(?=\.|$)", "*", path, count=1) if path.startswith("blocks.") else path
            assert roles.setdefault(pattern, named) == named, f"{path} has the roles '{named}', unlike its siblings"
        return {pattern: named for pattern, named in roles.items() if named}

    return found
