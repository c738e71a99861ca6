"""RandLoRA: full-rank updates from random matrices with trained diagonals (https://arxiv.org/abs/2502.00987)."""

from __future__ import annotations

from collections.abc import Mapping
from math import ceil
from typing import Any

from surgery.graph import Module
from surgery.methods.catalogue import settings_of
from surgery.methods.geometry import Geometry
from surgery.methods.method import Method, Start

_setting = settings_of("RANDLORA")


class Randlora(Method):
    """W + alpha / r * sum over i of B_i @ diag(l_i) @ A @ diag(g_i), of full rank; A and all B_i are random and frozen.

    There are as many i as ranks of r make up the smaller side. A and the B_i are buffers that all modules share.
    """

    name = "randlora"
    title = "RandLoRA"
    paper = "https://arxiv.org/abs/2502.00987"
    peft_type = "RANDLORA"
    layers = ("Linear", "Conv1D")
    # As VeRA's: a second adapter gets the first one's A and B.
    several = False
    starts_at = {"randlora_lambda": 0.0}
    settings = (
        _setting("r", "int", "the rank of each random matrix; the smaller, the more parameters"),
        _setting("randlora_alpha", "number", "the scale is alpha / r; 20 r is usual", name="alpha"),
        _setting("randlora_dropout", "probability", "dropout on the adapter's input, in training", name="dropout"),
        _setting("sparse", "bool", "random matrices of -1, 0 and 1, two thirds of them 0"),
        _setting("very_sparse", "bool", "random matrices of -1, 0 and 1, nearly all of them 0"),
        _setting("projection_prng_key", "count", "the seed of the random matrices"),
        _setting("save_projection", "bool", "save the random matrices; without, they are drawn again when loading"),
        _setting("init_weights", "bool", "true: l zero; false: l normal, not the base model at start", name="init"),
    )

    def conflict(self, settings: Mapping[str, Any]) -> str | None:
        if settings["sparse"] and settings["very_sparse"]:
            return "very_sparse takes the place of sparse; set one of them"
        return None

    def added_to(self, sizes: Geometry, settings: Mapping[str, Any]) -> int:
        """For each random matrix, r numbers l and one g for each of the smaller side."""
        r: int = settings["r"]
        smaller = min(sizes.inputs, sizes.outputs)
        return ceil(smaller / r) * (r + smaller)

    def scale(self, module: Module, settings: Mapping[str, Any]) -> float:
        return float(settings["alpha"] / settings["r"])

    def saved_besides(self, settings: Mapping[str, Any]) -> str:
        return "A and the B_i" if settings["save_projection"] else ""

    def start(self, settings: Mapping[str, Any]) -> Start:
        return "exact" if settings["init"] else "none"


RANDLORA = Randlora()
