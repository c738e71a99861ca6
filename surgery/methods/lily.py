"""Lily: low-rank factors that modules share, and a router that mixes them (https://arxiv.org/abs/2407.09946)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from math import ceil
from typing import Any

from surgery.graph import Module
from surgery.methods.catalogue import settings_of
from surgery.methods.geometry import Geometry, geometry
from surgery.methods.method import Method, Start

_setting = settings_of("LILY")


class Lily(Method):
    """y + scaling * A @ x times a mixture of `num_B` matrices B, whose weights a router computes from A @ x.

    The adapted modules of one shape share all B, and each `stride_A` of them in the order of the model one A. The
    mixture is one for all tokens of a batch, so what a sample comes out as depends on those beside it.
    """

    name = "lily"
    title = "Lily"
    paper = "https://arxiv.org/abs/2407.09946"
    peft_type = "LILY"
    # PEFT shares A and B between the modules of a model's first adapter only.
    several = False
    starts_at = {"lily_B": 0.0}
    shared_parameters = ("lily_A", "lily_B")
    settings = (
        _setting("r", "int", "the rank"),
        _setting("stride_A", "int", "how many consecutive modules of one shape share an A"),
        _setting("num_B", "int", "how many B the modules of one shape share, 2 or more"),
        _setting("scaling", "number", "the scale"),
        _setting("init_weights", "bool", "true: B zero; false: B random, not the base model at start", name="init"),
    )

    def conflict(self, settings: Mapping[str, Any]) -> str | None:
        return "the router needs two B or more to choose from" if settings["num_B"] < 2 else None

    def added_to(self, sizes: Geometry, settings: Mapping[str, Any]) -> int:
        """The router: num_B x r."""
        r: int = settings["r"]
        return r * int(settings["num_B"])

    def shared(self, modules: Sequence[Module], settings: Mapping[str, Any]) -> int:
        """For each shape, num_B matrices of r x outputs, and A of r x inputs for each stride of its modules."""
        shapes = Counter(
            (sizes.inputs, sizes.outputs) for sizes in map(geometry, modules) if not isinstance(sizes, str)
        )
        return sum(
            settings["r"] * (settings["num_B"] * outputs + ceil(count / settings["stride_A"]) * inputs)
            for (inputs, outputs), count in shapes.items()
        )

    def scale(self, module: Module, settings: Mapping[str, Any]) -> float:
        return float(settings["scaling"])

    def saved_besides(self, settings: Mapping[str, Any]) -> str:
        return "every A and B again for each module that shares it"

    def start(self, settings: Mapping[str, Any]) -> Start:
        return "exact" if settings["init"] else "none"

    def merging(self, module: Module, settings: Mapping[str, Any]) -> str | None:
        return "its update depends on the input"


LILY = Lily()
