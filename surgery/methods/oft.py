"""OFT: orthogonal fine-tuning (https://arxiv.org/abs/2306.07280), as OFTv2 computes it (2506.19847)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from surgery.graph import Module
from surgery.methods.by_weight import starts_as_zeros
from surgery.methods.catalogue import settings_of
from surgery.methods.geometry import Geometry
from surgery.methods.method import Method, Start

_setting = settings_of("OFT")
_EPS = 6e-5


class Oft(Method):
    """W @ R, with R orthogonal and block-diagonal, each block the Cayley transform of a learnt skew matrix."""

    name = "oft"
    title = "OFT"
    paper = "https://arxiv.org/abs/2306.07280"
    peft_type = "OFT"
    layers = ("Linear", "Conv2d", "Embedding")
    starts_at = {"oft_R": 0.0, "oft_embedding_R": 0.0}
    resized = ("r", "block_size")
    settings = (
        _setting("oft_block_size", "count", "inputs in a block; 0: as many as `r` makes", name="block_size"),
        _setting("r", "count", "how many blocks; 0: as many as `block_size` makes"),
        _setting("coft", "bool", "keep every block within `eps` of the identity"),
        _setting("eps", "number", "how far from the identity `coft` lets the blocks be"),
        _setting("block_share", "bool", "one block for all"),
        _setting(
            "use_cayley_neumann",
            "bool",
            "a power series for the inverse: fast, and nearly orthogonal",
            name="cayley_neumann",
        ),
        _setting("num_cayley_neumann_terms", "int", "terms of this series, 2 or more"),
        _setting(
            "init_weights", "bool", "true: R the identity; false: random, not the base model at start", name="init"
        ),
    )
    refused_fields = {"module_dropout": "PEFT's OFT makes this dropout and never applies it"}

    def conflict(self, settings: Mapping[str, Any]) -> str | None:
        if bool(settings["r"]) == bool(settings["block_size"]):
            return "r times block_size is the number of inputs, so set one of them and the other to 0"
        if settings["cayley_neumann"] and settings["num_cayley_neumann_terms"] < 2:
            return "the first term of the series alone is the identity, whatever is learnt"
        if settings["eps"] != _EPS and not settings["coft"]:
            return "eps does nothing without coft"
        return None

    def refusal_of(self, module: Module, sizes: Geometry, settings: Mapping[str, Any]) -> str | None:
        if sizes.kernel_size > 1:
            return "PEFT's OFT does not put the overlapping windows of a kernel together again as they were"
        if module.numbers.get("dilation", 1) != 1:
            return "PEFT's OFT does not adapt convolutions with dilation"
        width, given = _width(sizes), settings["r"] or settings["block_size"]
        if width % given:
            name = "r" if settings["r"] else "block_size"
            return f"{name} = {given} does not divide its width of {width}; PEFT would take another one"
        if _blocks(sizes, settings)[1] == 1:
            return "blocks of one input have nothing to turn"
        return starts_as_zeros(module, self.title)

    def added_to(self, sizes: Geometry, settings: Mapping[str, Any]) -> int:
        """For each block b * (b - 1) / 2, the upper triangle of a skew matrix."""
        number, size = _blocks(sizes, settings)
        return (1 if settings["block_share"] else number) * (size * (size - 1) // 2)

    def start(self, settings: Mapping[str, Any]) -> Start:
        return "exact" if settings["init"] else "none"

    def merging(self, module: Module, settings: Mapping[str, Any]) -> str | None:
        if module.numbers.get("groups", 1) > 1:
            return "PEFT does not merge OFT into convolutions with groups"
        return None


def _width(sizes: Geometry) -> int:
    """What is turned: the inputs, or what an embedding puts out."""
    return sizes.outputs if sizes.layer == "Embedding" else sizes.inputs


def _blocks(sizes: Geometry, settings: Mapping[str, Any]) -> tuple[int, int]:
    """How many blocks, and their size."""
    number = settings["r"] or _width(sizes) // settings["block_size"]
    return number, _width(sizes) // number


OFT = Oft()
