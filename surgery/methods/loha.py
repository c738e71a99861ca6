"""LoHa: the Hadamard product of two low-rank products (FedPara, https://arxiv.org/abs/2108.06098)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from math import sqrt
from typing import Any

from surgery.graph import Module
from surgery.methods.catalogue import settings_of
from surgery.methods.geometry import Geometry
from surgery.methods.method import Method, Start, alpha_advice

_setting = settings_of("LOHA")


class Loha(Method):
    """W + scale * (W1a @ W1b) * (W2a @ W2b), each product of rank r; the result has rank up to r * r."""

    name = "loha"
    title = "LoHa"
    paper = "https://arxiv.org/abs/2108.06098"
    peft_type = "LOHA"
    layers = ("Linear", "Conv1d", "Conv2d")
    starts_at = {"hada_w2_b": 0.0}
    settings = (
        _setting("r", "int", "the rank of each of the two products", pattern="rank_pattern"),
        _setting("alpha", "number", "the scale is alpha / r", pattern="alpha_pattern"),
        _setting("rank_dropout", "probability", "dropout on rows of the update, in training"),
        _setting("module_dropout", "probability", "how often a whole adapter is skipped"),
        _setting("use_effective_conv2d", "bool", "keep the kernel apart (Proposition 3)", name="effective_conv2d"),
        _setting("init_weights", "bool", "true: W2b zero; false: all random, not the base model at start", name="init"),
    )

    def added_to(self, sizes: Geometry, settings: Mapping[str, Any]) -> int:
        """Two pairs of factors of r x outputs and r x inputs x kernel.

        With the kernel apart: of r x outputs, r x inputs and r x r x kernel.
        """
        r: int = settings["r"]
        inputs = sizes.inputs // sizes.groups
        if settings["effective_conv2d"] and sizes.kernel_size > 1:
            return 2 * (r * (sizes.outputs + inputs) + r * r * sizes.kernel_size)
        return 2 * r * (sizes.outputs + inputs * sizes.kernel_size)

    def scale(self, module: Module, settings: Mapping[str, Any]) -> float:
        return float(settings["alpha"] / settings["r"])

    def start(self, settings: Mapping[str, Any]) -> Start:
        return "exact" if settings["init"] else "none"

    def advice_on(self, sizes: Geometry, settings: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
        r: int = settings["r"]
        width = min(sizes.outputs, sizes.inputs)
        if r > sqrt(width):
            yield "W0902", f"r = {r} is above sqrt({width}) = {sqrt(width):.1f}: the update has full rank from there on"
        yield from alpha_advice(r, settings["alpha"])


LOHA = Loha()
