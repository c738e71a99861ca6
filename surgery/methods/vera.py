"""VeRA: trained vectors around random matrices that all modules share (https://arxiv.org/abs/2310.11454)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from surgery.methods.catalogue import settings_of
from surgery.methods.geometry import Geometry
from surgery.methods.method import Method, Start

_setting = settings_of("VERA")


class Vera(Method):
    """W + diag(b) @ B @ diag(d) @ A, with vectors b and d; A and B are random, frozen, and one pair for all modules.

    Every module uses the part of A (r, inputs) and B (outputs, r) that fits it; they are buffers, no parameters.
    """

    name = "vera"
    title = "VeRA"
    paper = "https://arxiv.org/abs/2310.11454"
    peft_type = "VERA"
    layers = ("Linear", "Conv1D")
    # PEFT gives a second adapter the first one's A and B, sized for the first one's modules: it would not load alone.
    several = False
    starts_at = {"vera_lambda_b": 0.0}
    settings = (
        _setting("r", "int", "the rank of the random matrices"),
        _setting("d_initial", "number", "the start value of d"),
        _setting("vera_dropout", "probability", "dropout on the adapter's input, in training", name="dropout"),
        _setting("projection_prng_key", "count", "the seed of A and B"),
        _setting("save_projection", "bool", "save A and B; without, they are drawn again, the same in the same torch"),
        _setting("init_weights", "bool", "true: b zero; false: b one, d normal, not the base model", name="init"),
    )

    def added_to(self, sizes: Geometry, settings: Mapping[str, Any]) -> int:
        """b: one number for each output; d: one for each rank."""
        r: int = settings["r"]
        return sizes.outputs + r

    def saved_besides(self, settings: Mapping[str, Any]) -> str:
        return "A and B" if settings["save_projection"] else ""

    def start(self, settings: Mapping[str, Any]) -> Start:
        return "exact" if settings["init"] else "none"


VERA = Vera()
