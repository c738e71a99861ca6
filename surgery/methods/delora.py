"""DeLoRA: LoRA whose update is normalised and bounded, its strength apart from its directions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from surgery.graph import Module
from surgery.methods.catalogue import settings_of
from surgery.methods.geometry import Geometry
from surgery.methods.method import Method, Start

_setting = settings_of("DELORA")


class Delora(Method):
    """W + lambda / r * sum of the rank-one matrices of B @ A, each normalised, its columns scaled by those of W."""

    name = "delora"
    title = "DeLoRA"
    paper = "https://arxiv.org/abs/2503.18225"
    peft_type = "DELORA"
    starts_at = {"delora_B": 0.0}
    settings = (
        _setting("r", "int", "the rank", pattern="rank_pattern"),
        _setting(
            "delora_lambda",
            "number",
            "the strength of the update at the start, a bound of its norm; it is trained",
            name="lambda",
            pattern="lambda_pattern",
        ),
        _setting("module_dropout", "probability", "dropout on the adapter's input, in training"),
        _setting("init_weights", "bool", "true: B zero; false: random, not the base model at start", name="init"),
    )
    refused_fields = {"lambda_pattern": "write one target per lambda"}

    def refusal_of(self, module: Module, sizes: Geometry, settings: Mapping[str, Any]) -> str | None:
        if module.weight and module.weight.init.value == "zero":
            return "its weight starts as zeros, and DeLoRA scales the update by the norms of the weight's columns"
        return None

    def added_to(self, sizes: Geometry, settings: Mapping[str, Any]) -> int:
        """A: r x inputs; B: outputs x r; lambda. The norms of the weight's columns are saved beside."""
        return int(settings["r"]) * (sizes.inputs + sizes.outputs) + 1

    def saved_besides(self, settings: Mapping[str, Any]) -> str:
        return "the norms of the columns of W"

    def start(self, settings: Mapping[str, Any]) -> Start:
        return "exact" if settings["init"] else "none"

    def reads_weights(self, settings: Mapping[str, Any]) -> bool:
        return True


DELORA = Delora()
