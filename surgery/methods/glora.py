"""GLoRA: the weight and the bias of a layer each scaled and shifted, by matrices of a form that is chosen."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from surgery.graph import Module
from surgery.methods.catalogue import settings_of
from surgery.methods.geometry import Geometry
from surgery.methods.method import Method, Start

_setting = settings_of("GLORA")


class Glora(Method):
    """W + W * A + B for the weight, b + b * D + E + W @ C for the bias; * is number by number."""

    name = "glora"
    title = "GLoRA"
    paper = "https://arxiv.org/abs/2306.07967"
    peft_type = "GLORA"
    settings = (
        _setting("r", "int", 'the rank of the matrices that are "lora"'),
        _setting(
            "config_A_B",
            "choice",
            'A and B: "lora": of rank r; "vector": a number for each output; "constant": one number; "none": left out',
            choices=("lora", "vector", "constant", "none"),
        ),
        _setting(
            "config_C",
            "choice",
            'C, where there is a bias: "lora": of rank r; "vector": a number for each input; "none": left out',
            choices=("lora", "vector", "none"),
        ),
        _setting(
            "config_D_E",
            "choice",
            'D and E, where there is a bias: "vector": a number for each output; "constant": one; "none": left out',
            choices=("vector", "constant", "none"),
        ),
        _setting("init_weights", "bool", "true: all zero; false: random, not the base model at start", name="init"),
    )

    def refusal_of(self, module: Module, sizes: Geometry, settings: Mapping[str, Any]) -> str | None:
        if module.bases != ("Linear",):
            return f"PEFT's GLoRA adapts torch's Linear only, and no class of its own as {module.kind}"
        if not self.added_to(sizes, settings):
            return "nothing is left of the adapter: C, D and E are for a bias, and A and B are left out"
        return None

    def added_to(self, sizes: Geometry, settings: Mapping[str, Any]) -> int:
        """A and B: two of r x (outputs + inputs), of outputs or of 1. Where there is a bias, C: r x (inputs + 1) or
        inputs; D and E: two of outputs or of 1.
        """
        r: int = settings["r"]
        inputs, outputs = sizes.inputs, sizes.outputs
        weight = {"lora": r * (outputs + inputs), "vector": outputs, "constant": 1, "none": 0}[settings["config_A_B"]]
        if not sizes.has_bias:
            return 2 * weight
        column = {"lora": r * (inputs + 1), "vector": inputs, "none": 0}[settings["config_C"]]
        bias = {"vector": outputs, "constant": 1, "none": 0}[settings["config_D_E"]]
        return 2 * weight + column + 2 * bias

    def saved_besides(self, settings: Mapping[str, Any]) -> str:
        """Zeros as large as what is left out; those in place of a bias that a module lacks are not foreseen here."""
        return "zeros in place of what is left out" if "none" in settings.values() else ""

    def start(self, settings: Mapping[str, Any]) -> Start:
        return "exact" if settings["init"] else "none"

    def starts(self, settings: Mapping[str, Any]) -> Mapping[str, float]:
        zero = [f"glora_{which}.{name}" for which in "ABCDE" for name in ("X", "Xd")]
        return dict.fromkeys(zero, 0.0) if settings["init"] else {}


GLORA = Glora()
