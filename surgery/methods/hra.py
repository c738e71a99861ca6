"""HRA: a chain of learnt Householder reflections (https://arxiv.org/abs/2405.17484)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from surgery.graph import Module
from surgery.methods.by_weight import starts_as_zeros, taken_over
from surgery.methods.catalogue import settings_of
from surgery.methods.geometry import Geometry
from surgery.methods.method import Method, Start

_setting = settings_of("HRA")


class Hra(Method):
    """W @ H1 @ ... @ Hr, with Hi = I - 2 * ui @ ui.T for r learnt directions ui of the inputs."""

    name = "hra"
    title = "HRA"
    paper = "https://arxiv.org/abs/2405.17484"
    peft_type = "HRA"
    layers = ("Linear", "Conv2d")
    settings = (
        _setting("r", "int", "how many reflections; an odd number of them is never the base model"),
        _setting("apply_GS", "bool", "make the directions orthogonal by Gram-Schmidt"),
        _setting(
            "init_weights", "bool", "true: equal pairs, which undo each other; false: random directions", name="init"
        ),
    )

    def conflict(self, settings: Mapping[str, Any]) -> str | None:
        if settings["apply_GS"] and settings["init"] and settings["r"] % 2 == 0:
            return "Gram-Schmidt of equal pairs divides rounding errors: apply_GS with an even r needs init = false"
        return None

    def refusal_of(self, module: Module, sizes: Geometry, settings: Mapping[str, Any]) -> str | None:
        if reason := taken_over(module, self.title):
            return reason
        width = sizes.inputs * sizes.kernel_size
        if settings["apply_GS"] and settings["r"] > width:
            return f"no {settings['r']} directions of its {width} inputs are orthogonal to each other"
        return starts_as_zeros(module, self.title)

    def added_to(self, sizes: Geometry, settings: Mapping[str, Any]) -> int:
        """r directions of inputs x kernel."""
        r: int = settings["r"]
        return r * sizes.inputs * sizes.kernel_size

    def start(self, settings: Mapping[str, Any]) -> Start:
        """`close`: equal pairs of reflections undo each other up to rounding."""
        paired = settings["init"] and settings["r"] % 2 == 0 and not settings["apply_GS"]
        return "close" if paired else "none"


HRA = Hra()
