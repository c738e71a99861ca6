"""LoHa: the Hadamard product of two low-rank products (FedPara, https://arxiv.org/abs/2108.06098)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from math import sqrt
from typing import Any

from surgery.graph import Module
from surgery.methods.geometry import Geometry
from surgery.methods.method import Method, alpha_advice
from surgery.methods.reasons import BY_SURGERY
from surgery.methods.setting import Setting


class Loha(Method):
    """W + scale * (W1a @ W1b) * (W2a @ W2b), each product of rank r; the result has rank up to r * r."""

    name = "loha"
    peft_type = "LOHA"
    config = "LoHaConfig"
    prefix = "hada_"
    zero_at_start = ("hada_w2_b",)
    settings = (
        Setting("r", "r", "int", 8, "the rank of each of the two products", per_site=True),
        Setting("alpha", "alpha", "number", 8, "the scale is alpha / r", per_site=True),
        Setting("rank_dropout", "rank_dropout", "probability", 0.0, "dropout on rows of the update, in training"),
        Setting("module_dropout", "module_dropout", "probability", 0.0, "how often a whole adapter is skipped"),
        Setting("effective_conv2d", "use_effective_conv2d", "bool", False, "keep the kernel apart (Proposition 3)"),
        Setting("init", "init_weights", "bool", True, "true: W2b zero; false: all random, not the base model at start"),
    )
    unsupported = BY_SURGERY

    def refusal_of(self, module: Module, sizes: Geometry, settings: Mapping[str, Any]) -> str | None:
        if sizes.layer in ("Embedding", "Conv1D"):
            return f"PEFT's LoHa adapts Linear, Conv1d and Conv2d, not {sizes.layer}"
        return None

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

    def is_identity(self, settings: Mapping[str, Any]) -> bool:
        return settings["init"] is True

    def advice_on(self, sizes: Geometry, settings: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
        r: int = settings["r"]
        width = min(sizes.outputs, sizes.inputs)
        if r > sqrt(width):
            yield "W0902", f"r = {r} is above sqrt({width}) = {sqrt(width):.1f}: the update has full rank from there on"
        yield from alpha_advice(r, settings["alpha"])


LOHA = Loha()
