"""What the methods have in common that learn a few entries of a transform of the update."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from surgery.graph import Module
from surgery.methods.geometry import Geometry
from surgery.methods.method import Method, Start


class Spectral(Method):
    """A method with `n_frequency` learnt entries, a factor `scaling`, and zeros at the start with `init`."""

    layers = ("Linear", "Conv1D")

    def refusal_of(self, module: Module, sizes: Geometry, settings: Mapping[str, Any]) -> str | None:
        size, n = sizes.inputs * sizes.outputs, settings["n_frequency"]
        return f"its weight has {size:,} entries, and n_frequency is {n:,}" if n > size else None

    def added_to(self, sizes: Geometry, settings: Mapping[str, Any]) -> int:
        """The learnt entries, whatever the size of the layer."""
        n: int = settings["n_frequency"]
        return n

    def scale(self, module: Module, settings: Mapping[str, Any]) -> float:
        return float(settings["scaling"])

    def start(self, settings: Mapping[str, Any]) -> Start:
        return "exact" if settings["init"] else "none"
