"""VB-LoRA: low-rank factors composed from one bank of vectors (https://arxiv.org/abs/2405.15179)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from surgery.graph import Module
from surgery.methods.catalogue import settings_of
from surgery.methods.geometry import Geometry
from surgery.methods.method import Method, Start

_setting = settings_of("VBLORA")


class Vblora(Method):
    """W + B @ A, whose pieces of `vector_length` are mixtures of the `topk` vectors of a bank that their logits prefer.

    The bank is one for all modules. Logits and bank start random, so the adapted model does not start as the base
    model.
    """

    name = "vblora"
    title = "VB-LoRA"
    paper = "https://arxiv.org/abs/2405.15179"
    peft_type = "VBLORA"
    layers = ("Linear", "Conv1D")
    shared_parameters = ("vblora_vector_bank",)
    settings = (
        _setting("r", "int", "the rank"),
        _setting("num_vectors", "int", "how many vectors the bank has"),
        _setting("vector_length", "int", "their length, which has to divide inputs and outputs of every module"),
        _setting("topk", "int", "how many vectors make up a piece, 2 or more"),
        _setting("vblora_dropout", "probability", "dropout on the adapter's input, in training", name="dropout"),
        _setting("init_vector_bank_bound", "number", "the bank starts uniform between minus this and this"),
        _setting("init_logits_std", "number", "the standard deviation of the logits at start"),
    )
    refused_fields = {
        "save_only_topk_weights": "what it saves cannot be trained again, and computes what was trained only nearly",
    }

    def conflict(self, settings: Mapping[str, Any]) -> str | None:
        topk, vectors = settings["topk"], settings["num_vectors"]
        if topk == 1:
            return "with topk = 1 a piece is one vector, whatever its logits, and these get no gradient; use 2 or more"
        return f"topk = {topk} is more than the {vectors} vectors of the bank" if topk > vectors else None

    def refusal_of(self, module: Module, sizes: Geometry, settings: Mapping[str, Any]) -> str | None:
        length = settings["vector_length"]
        if sizes.inputs % length or sizes.outputs % length:
            return f"vector_length = {length} has to divide its inputs and outputs, {sizes.inputs} and {sizes.outputs}"
        return None

    def added_to(self, sizes: Geometry, settings: Mapping[str, Any]) -> int:
        """Logits over the bank for each piece of A and of B."""
        pieces = settings["r"] * (sizes.inputs + sizes.outputs) // settings["vector_length"]
        return int(pieces * settings["num_vectors"])

    def shared(self, modules: Sequence[Module], settings: Mapping[str, Any]) -> int:
        """The bank."""
        return int(settings["num_vectors"] * settings["vector_length"])

    def start(self, settings: Mapping[str, Any]) -> Start:
        return "none"


VBLORA = Vblora()
