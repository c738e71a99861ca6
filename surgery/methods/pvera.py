"""PVeRA: VeRA whose low-rank vector is drawn from a learnt normal distribution (https://arxiv.org/abs/2512.07703)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from surgery.graph import Module
from surgery.methods.catalogue import settings_of
from surgery.methods.geometry import Geometry
from surgery.methods.method import Method, Start

_setting = settings_of("PVERA")


class Pvera(Method):
    """y + b * B @ z with z drawn from N(m, exp(v)) and (m, v) = d * A @ x; A and B are random, frozen, for all modules.

    Outside of training z is the mean m, unless `sample_at_inference`. A (2r, inputs) and B (outputs, r) are buffers.
    """

    name = "pvera"
    title = "PVeRA"
    paper = "https://arxiv.org/abs/2512.07703"
    peft_type = "PVERA"
    layers = ("Linear", "Conv1D")
    # As VeRA's: a second adapter gets the first one's A and B.
    several = False
    starts_at = {"pvera_lambda_b": 0.0}
    settings = (
        _setting("r", "int", "the rank of the random matrices"),
        _setting("d_initial", "number", "the start value of d"),
        _setting("pvera_dropout", "probability", "dropout on the adapter's input, in training", name="dropout"),
        _setting("sample_at_inference", "bool", "draw z outside of training too, in place of its mean"),
        _setting("generator_seed", "count", "the seed of what is drawn; none: torch's own", optional=True),
        _setting("projection_prng_key", "count", "the seed of A and B"),
        _setting("save_projection", "bool", "save A and B; without, they are drawn again, the same in the same torch"),
        _setting("init_weights", "bool", "true: b zero; false: b one, d normal, not the base model", name="init"),
    )

    def added_to(self, sizes: Geometry, settings: Mapping[str, Any]) -> int:
        """b: one number for each output; d: two for each rank, of the mean and of the log-variance."""
        r: int = settings["r"]
        return sizes.outputs + 2 * r

    def saved_besides(self, settings: Mapping[str, Any]) -> str:
        return "A and B" if settings["save_projection"] else ""

    def start(self, settings: Mapping[str, Any]) -> Start:
        return "exact" if settings["init"] else "none"

    def merging(self, module: Module, settings: Mapping[str, Any]) -> str | None:
        if settings["sample_at_inference"]:
            return "it draws its update anew in each call, and a merged weight holds the mean"
        return None


PVERA = Pvera()
