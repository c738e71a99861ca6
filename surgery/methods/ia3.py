"""(IA)3: a learnt factor for every output, or input (https://arxiv.org/abs/2205.05638)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from surgery.graph import Module
from surgery.methods.catalogue import settings_of
from surgery.methods.geometry import Geometry
from surgery.methods.method import Method, Start
from surgery.methods.setting import Setting

_setting = settings_of("IA3")


class Ia3(Method):
    """l * (W @ x + b), with a factor in l for every output; with `feedforward`, W @ (l * x) + b.

    The paper scales keys and values by output, and in feed-forward layers the input of the last matrix.
    """

    name = "ia3"
    title = "(IA)3"
    paper = "https://arxiv.org/abs/2205.05638"
    peft_type = "IA3"
    layers = ("Linear", "Conv2d", "Conv3d", "Conv1D")
    starts_at = {"ia3_l": 1.0}
    settings = (
        Setting(
            "feedforward",
            "",
            "bool",
            False,
            "factors for the inputs, as the paper has them in feed-forward layers, in place of the outputs",
            pattern="feedforward_modules",
        ),
        _setting("init_ia3_weights", "bool", "true: ones; false: normal, not the base model at start", name="init"),
    )
    refused_fields = {"feedforward_modules": "write `feedforward = true` in the target that selects these modules"}

    def refusal_of(self, module: Module, sizes: Geometry, settings: Mapping[str, Any]) -> str | None:
        scaled = module.parameters[:1] if settings["feedforward"] else module.parameters
        if all(parameter.init.value == "zero" for parameter in scaled):
            return "what (IA)3 would scale starts as zeros: nothing would be learnt"
        return None

    def added_to(self, sizes: Geometry, settings: Mapping[str, Any]) -> int:
        """One factor for each input with `feedforward`, else for each output."""
        return sizes.inputs if settings["feedforward"] else sizes.outputs

    def start(self, settings: Mapping[str, Any]) -> Start:
        return "exact" if settings["init"] else "none"


IA3 = Ia3()
