"""Architectures by name: each a function that builds a small real model and one example call."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import nn

Built = tuple[nn.Module, dict[str, Any]]


@dataclass(frozen=True)
class Architecture:
    """A model family of the zoo; `name` is also that of its labels, `labels/NAME.json`.

    `held_out` marks one whose labels were made after the rules were written, to measure how well they generalise.
    """

    name: str
    build: Callable[[], Built]
    held_out: bool = False


ARCHITECTURES: dict[str, Architecture] = {}


def architecture(name: str, *, held_out: bool = False) -> Callable[[Callable[[], Built]], Callable[[], Built]]:
    """Register a function that returns a model and the keywords of its example call."""

    def register(build: Callable[[], Built]) -> Callable[[], Built]:
        assert name not in ARCHITECTURES, name
        ARCHITECTURES[name] = Architecture(name, build, held_out)
        return build

    return register
