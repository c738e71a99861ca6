"""GraLoRA: the weight cut into k x k blocks, each with a LoRA of rank r / k of its own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from surgery.graph import Module
from surgery.methods.catalogue import settings_of
from surgery.methods.geometry import Geometry
from surgery.methods.method import Method, Start, alpha_advice

_setting = settings_of("GRALORA")


class Gralora(Method):
    """W + scale * (k x k blocks B_ij @ A_ij of rank r / k + B @ A of rank hybrid_r).

    Its layers take inputs of two and three dimensions only.
    """

    name = "gralora"
    title = "GraLoRA"
    paper = "https://arxiv.org/abs/2505.20355"
    peft_type = "GRALORA"
    layers = ("Linear", "Conv1D")
    starts_at = {"gralora_B": 0.0, "gralora_B_general": 0.0}
    settings = (
        _setting("r", "int", "the rank that the k blocks in a row of blocks have together"),
        _setting("hybrid_r", "count", "the rank of a LoRA of the whole weight beside the blocks; 0: none"),
        _setting("alpha", "number", "the scale is alpha / (r + hybrid_r)"),
        _setting("gralora_k", "int", "into how many parts each side of the weight is cut", name="k"),
        _setting("gralora_dropout", "probability", "dropout on the adapter's input, in training", name="dropout"),
        _setting("init_weights", "bool", "true: B zero; false: random, not the base model at start", name="init"),
    )

    def conflict(self, settings: Mapping[str, Any]) -> str | None:
        r, k = settings["r"], settings["k"]
        return f"k must divide r, and r = {r} is no multiple of k = {k}" if r % k else None

    def refusal_of(self, module: Module, sizes: Geometry, settings: Mapping[str, Any]) -> str | None:
        k = settings["k"]
        if sizes.inputs % k or sizes.outputs % k:
            return f"k = {k} does not divide both its {sizes.inputs} inputs and its {sizes.outputs} outputs"
        return None

    def added_to(self, sizes: Geometry, settings: Mapping[str, Any]) -> int:
        """(r + hybrid_r) x (inputs + outputs), whatever k is."""
        return int(settings["r"] + settings["hybrid_r"]) * (sizes.inputs + sizes.outputs)

    def scale(self, module: Module, settings: Mapping[str, Any]) -> float:
        return float(settings["alpha"] / (settings["r"] + settings["hybrid_r"]))

    def start(self, settings: Mapping[str, Any]) -> Start:
        return "exact" if settings["init"] else "none"

    def advice_on(self, sizes: Geometry, settings: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
        yield from alpha_advice(settings["r"] + settings["hybrid_r"], settings["alpha"])


GRALORA = Gralora()
