"""LN tuning: norms are trained, as copies of their own (https://arxiv.org/abs/2312.11420)."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from typing import Any

from surgery.graph import Module, Parameter
from surgery.methods.geometry import is_plain_float
from surgery.methods.method import Method


class LnTuning(Method):
    """The module's trained copy, in its place."""

    name = "ln_tuning"
    title = "LN tuning"
    paper = "https://arxiv.org/abs/2312.11420"
    peft_type = "LN_TUNING"
    layers = ("norms",)
    several = False  # PEFT's layer calls one copy, and raises where two adapters are active
    copies = True
    settings = ()

    def refusal(self, module: Module, settings: Mapping[str, Any]) -> str | None:
        if not module.parameters:
            return f"this {module.kind} has no parameters"
        if matrices := [parameter.name for parameter in module.parameters if not _is_vector(parameter)]:
            return (
                f"its {matrices[0]} is no vector as a norm's is; `train {{ select ... }}` trains such modules in full"
            )
        if quantised := [parameter.name for parameter in module.parameters if not is_plain_float(parameter.dtype)]:
            return f"its {quantised[0]} is quantised"
        return None

    def added(self, module: Module, settings: Mapping[str, Any]) -> int:
        """As many as the module has."""
        return sum(prod(parameter.shape) for parameter in module.parameters)

    def reads_weights(self, settings: Mapping[str, Any]) -> bool:
        """The copy starts as the module is."""
        return True


def _is_vector(parameter: Parameter) -> bool:
    return prod(parameter.shape) == max(parameter.shape, default=1)


LN_TUNING = LnTuning()
