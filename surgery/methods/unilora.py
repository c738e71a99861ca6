"""Uni-LoRA: one vector for the low-rank factors of all modules (https://arxiv.org/abs/2506.00799)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from surgery.graph import Module
from surgery.methods.catalogue import settings_of
from surgery.methods.geometry import Geometry
from surgery.methods.method import Method, Start

_setting = settings_of("UNILORA")


class Unilora(Method):
    """W + B @ A, whose entries are those of one trained vector for all modules, at places that a seed draws, scaled.

    A module has no parameters of its own. Both factors start random, so the adapted model does not start as the base
    model.
    """

    name = "unilora"
    title = "Uni-LoRA"
    paper = "https://arxiv.org/abs/2506.00799"
    peft_type = "UNILORA"
    layers = ("Linear", "Conv1D")
    shared_parameters = ("unilora_theta_d",)
    settings = (
        _setting("r", "int", "the rank"),
        _setting("theta_d_length", "int", "the length of the vector: all that is trained"),
        _setting("proj_seed", "count", "the seed of the places"),
        _setting("unilora_dropout", "probability", "dropout on the adapter's input, in training", name="dropout"),
        _setting("init_theta_d_bound", "number", "the vector starts uniform between minus this and this"),
        _setting("init_weights", "bool", "true: uniform within the bound; false: normal, of deviation 1", name="init"),
        _setting("save_indices", "bool", "save the places; without, they are drawn again when loading"),
    )

    def added_to(self, sizes: Geometry, settings: Mapping[str, Any]) -> int:
        return 0

    def shared(self, modules: Sequence[Module], settings: Mapping[str, Any]) -> int:
        """The vector."""
        return int(settings["theta_d_length"])

    def saved_besides(self, settings: Mapping[str, Any]) -> str:
        return "the places" if settings["save_indices"] else ""

    def start(self, settings: Mapping[str, Any]) -> Start:
        return "none"

    def needs_floats(self, settings: Mapping[str, Any]) -> bool:
        """PEFT gives the scales the dtype of the weight: of a quantised one, whole numbers, all of them 0."""
        return True


UNILORA = Unilora()
