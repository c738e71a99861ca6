"""HiRA: the weight times a low-rank matrix, number by number, so that the update has a high rank."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from surgery.graph import Module
from surgery.methods.catalogue import settings_of
from surgery.methods.geometry import Geometry
from surgery.methods.method import Method, Start

_setting = settings_of("HIRA")


class Hira(Method):
    """W + W * (B @ A), with A (r, inputs) and B (outputs, r); * is number by number."""

    name = "hira"
    title = "HiRA"
    paper = "https://openreview.net/pdf?id=TwJrTz9cRS"
    peft_type = "HIRA"
    layers = ("Linear", "Conv1d", "Conv2d", "Conv3d", "Embedding", "Conv1D")
    starts_at = {"hira_B": 0.0, "hira_embedding_A": 0.0}
    settings = (
        # PEFT's layers read r itself, not rank_pattern.
        _setting("r", "int", "the rank of the matrix that the weight is multiplied by"),
        _setting("hira_dropout", "probability", "dropout on the adapter's input, in training", name="dropout"),
        _setting(
            "init_weights",
            "choice",
            'true: A uniform, B zero; "gaussian": A normal, B zero; false: both random, not the base model at start',
            name="init",
            choices=(True, False, "gaussian"),
        ),
    )

    def refusal_of(self, module: Module, sizes: Geometry, settings: Mapping[str, Any]) -> str | None:
        assert module.weight
        if sizes.groups > 1:
            return f"PEFT's HiRA does not adapt convolutions with groups, and it has {sizes.groups}"
        if sizes.layer == "Conv3d" and sizes.kernel[:2] == (1, 1):
            return "PEFT's HiRA takes a Conv3d with this kernel for a Conv2d, and fails when it is called"
        if sizes.is_convolution and settings["init"] == "gaussian":
            return 'PEFT\'s HiRA starts a convolution the same way with init = "gaussian" as with true'
        if sizes.layer == "Embedding" and module.kind != "Embedding":
            return f"PEFT's HiRA looks up rows as torch's Embedding does, and {module.kind} may do it in its own way"
        if module.weight.init.value == "zero":
            return "its weight starts as zeros, and HiRA multiplies it"
        return None

    def added_to(self, sizes: Geometry, settings: Mapping[str, Any]) -> int:
        """A: r x inputs x kernel; B: outputs x r."""
        return int(settings["r"]) * (sizes.inputs * sizes.kernel_size + sizes.outputs)

    def start(self, settings: Mapping[str, Any]) -> Start:
        return "exact" if settings["init"] else "none"

    def advice_on(self, sizes: Geometry, settings: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
        if sizes.layer == "Embedding" and settings["dropout"]:
            yield "W0910", "dropout has no effect on an Embedding"


HIRA = Hira()
