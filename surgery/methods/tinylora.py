"""TinyLoRA: a few numbers that steer a weight's main directions (https://arxiv.org/abs/2602.04118)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from surgery.graph import Module
from surgery.methods.catalogue import settings_of
from surgery.methods.geometry import Geometry
from surgery.methods.method import Method, Start
from surgery.methods.setting import Setting

_setting = settings_of("TINYLORA")


class Tinylora(Method):
    """W + B @ R @ A with R = sum over i of v_i P_i; B and A are W's r main singular directions, the P_i random.

    Only v is trained. Modules may share one: `weight_tying` says how many of them do. A, B and P are buffers.
    """

    name = "tinylora"
    title = "TinyLoRA"
    paper = "https://arxiv.org/abs/2602.04118"
    peft_type = "TINYLORA"
    layers = ("Linear", "Embedding", "Conv1D")
    starts_at = {"tinylora_v": 0.0}
    shared_parameters = ("tinylora_v",)
    settings = (
        _setting("r", "int", "how many singular directions of each weight are steered"),
        _setting("u", "int", "the length of v"),
        _setting("weight_tying", "share", "how much modules share v: 0 gives each its own, 1 one to all"),
        _setting("tinylora_dropout", "probability", "dropout on the adapter's input, in training", name="dropout"),
        _setting("projection_seed", "count", "the seed of the P_i"),
        _setting(
            "init_weights",
            "choice",
            'true: v zero; "uniform": uniform within init_v_bound, not the base model at start',
            name="init",
            choices=(True, "uniform"),
        ),
        _setting("init_v_bound", "number", 'with init = "uniform": v is between minus this and this'),
    )
    refused_fields = {
        "save_projection": "the random P are always saved: they are small, and A and B, which are not, are saved too",
    }

    def unsupported_value(self, setting: Setting, value: object) -> str | None:
        if setting.name == "init" and value is False:
            return "PEFT then leaves v uninitialised: it is whatever the memory held before"
        return None

    def refusal_of(self, module: Module, sizes: Geometry, settings: Mapping[str, Any]) -> str | None:
        r, sides = settings["r"], min(sizes.inputs, sizes.outputs)
        if r > sides:
            return f"its weight has {sides} singular directions, fewer than r = {r}"
        if sizes.layer == "Embedding" and module.kind != "Embedding":
            return f"PEFT's TinyLoRA looks tokens up as an Embedding does, and {module.kind} may do it in its own way"
        if module.weight and module.weight.init.value == "zero":
            return "its weight starts as zeros, which have no directions, and the adapter could never do anything"
        return None

    def added_to(self, sizes: Geometry, settings: Mapping[str, Any]) -> int:
        return 0

    def shared(self, modules: Sequence[Module], settings: Mapping[str, Any]) -> int:
        """A v for each group of modules; PEFT rounds the number of groups half to even, as Python does."""
        groups = max(1, round(len(modules) * (1 - settings["weight_tying"])))
        return int(groups * settings["u"])

    def saved_besides(self, settings: Mapping[str, Any]) -> str:
        return "A, B and the P_i"

    def start(self, settings: Mapping[str, Any]) -> Start:
        return "exact" if settings["init"] is True else "none"

    def reads_weights(self, settings: Mapping[str, Any]) -> bool:
        return True


TINYLORA = Tinylora()
