"""RoAd: rotates pairs of a layer's outputs and scales them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from surgery.graph import Module
from surgery.methods.catalogue import settings_of
from surgery.methods.geometry import Geometry
from surgery.methods.method import Method, Start

_setting = settings_of("ROAD")
_NUMBERS = {"road_1": 1, "road_2": 2, "road_4": 4}  # theta and alpha together, for each output


class Road(Method):
    """R @ (W x + b), with R of 2 x 2 blocks alpha * [[cos theta, -sin theta], [sin theta, cos theta]]."""

    name = "road"
    title = "RoAd"
    paper = "https://arxiv.org/abs/2409.00119"
    peft_type = "ROAD"
    starts_at = {"road_theta": 0.0, "road_alpha": 1.0}
    settings = (
        _setting(
            "variant",
            "choice",
            '"road_1": one theta and alpha for a pair; "road_2": for each output; "road_4": for each number of R',
            choices=tuple(_NUMBERS),
        ),
        _setting("group_size", "int", "outputs are paired within groups of this size, first half with second half"),
        _setting(
            "init_weights", "bool", "true: R the identity; false: random, not the base model at start", name="init"
        ),
    )

    def conflict(self, settings: Mapping[str, Any]) -> str | None:
        size = settings["group_size"]
        return f"group_size must be even, and is {size}" if size % 2 else None

    def refusal_of(self, module: Module, sizes: Geometry, settings: Mapping[str, Any]) -> str | None:
        size = settings["group_size"]
        if sizes.outputs % size:
            return f"group_size = {size} does not divide its {sizes.outputs} outputs"
        if all(parameter.init.value == "zero" for parameter in module.parameters):
            return "it starts as zeros, and RoAd rotates and scales what it gives"
        return None

    def added_to(self, sizes: Geometry, settings: Mapping[str, Any]) -> int:
        """theta and alpha: half a number for each output and each (road_1), one (road_2) or two (road_4)."""
        return _NUMBERS[settings["variant"]] * sizes.outputs

    def start(self, settings: Mapping[str, Any]) -> Start:
        return "exact" if settings["init"] else "none"


ROAD = Road()
