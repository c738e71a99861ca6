"""BOFT: orthogonal fine-tuning by butterfly factors (https://arxiv.org/abs/2311.06243)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from surgery.graph import Module
from surgery.methods.by_weight import starts_as_zeros, taken_over
from surgery.methods.catalogue import settings_of
from surgery.methods.geometry import Geometry
from surgery.methods.method import Method, Start

_setting = settings_of("BOFT")


class Boft(Method):
    """s * (W @ R), with R orthogonal and block-diagonal (Cayley transforms), and a factor in s for every output."""

    name = "boft"
    title = "BOFT"
    paper = "https://arxiv.org/abs/2311.06243"
    peft_type = "BOFT"
    layers = ("Linear", "Conv2d")
    resized = ("block_size", "block_num")
    settings = (
        _setting("boft_block_size", "count", "inputs in a block; 0: as many as `block_num` makes", name="block_size"),
        _setting("boft_block_num", "count", "how many blocks; 0: as many as `block_size` makes", name="block_num"),
        _setting(
            "boft_dropout", "probability", "share of the blocks, rounded down, that training takes out", name="dropout"
        ),
        _setting(
            "init_weights",
            "bool",
            "true: R the identity, s ones; false: random, not the base model at start",
            name="init",
        ),
    )
    refused_fields = {
        "boft_n_butterfly_factor": "PEFT takes 1 wherever its CUDA extension is not built, so that the same plan would "
        "make another adapter on another machine"
    }

    def conflict(self, settings: Mapping[str, Any]) -> str | None:
        if bool(settings["block_num"]) == bool(settings["block_size"]):
            return "block_num times block_size is the number of inputs, so set one of them and the other to 0"
        return None

    def refusal_of(self, module: Module, sizes: Geometry, settings: Mapping[str, Any]) -> str | None:
        if sizes.is_convolution and (reason := taken_over(module, self.title)):
            return reason
        width, given = sizes.inputs * sizes.kernel_size, settings["block_num"] or settings["block_size"]
        if width % given:
            name = "block_num" if settings["block_num"] else "block_size"
            return f"{name} = {given} does not divide its width of {width}"
        if _blocks(sizes, settings)[1] == 1:
            return "blocks of one input have nothing to turn"
        return starts_as_zeros(module, self.title)

    def added_to(self, sizes: Geometry, settings: Mapping[str, Any]) -> int:
        """A full matrix for each block, of which the skew part counts, and a factor for each output."""
        number, size = _blocks(sizes, settings)
        return number * size * size + sizes.outputs

    def start(self, settings: Mapping[str, Any]) -> Start:
        """`close`: PEFT takes the bias off the layer's output and adds it again."""
        return "close" if settings["init"] else "none"


def _blocks(sizes: Geometry, settings: Mapping[str, Any]) -> tuple[int, int]:
    """How many blocks, and their size."""
    width = sizes.inputs * sizes.kernel_size
    number = settings["block_num"] or width // settings["block_size"]
    return number, width // number


BOFT = Boft()
