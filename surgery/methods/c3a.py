"""C3A: an update made of circulant blocks (https://arxiv.org/abs/2407.19342)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from surgery.graph import Module
from surgery.methods.catalogue import settings_of
from surgery.methods.geometry import Geometry
from surgery.methods.method import Method, Start

_setting = settings_of("C3A")


class C3a(Method):
    """W + C / inputs, with C made of circulant blocks of block_size x block_size, each from one learnt row."""

    name = "c3a"
    title = "C3A"
    paper = "https://arxiv.org/abs/2407.19342"
    peft_type = "C3A"
    starts_at = {"c3a_kernel": 0.0}
    settings = (
        _setting("block_size", "int", "the side of a block; it divides inputs and outputs"),
        _setting(
            "init_weights",
            "choice",
            "true: zeros; the others: random, not the base model at start; false is xavier_uniform",
            name="init",
            choices=("xavier_uniform", "kaiming_uniform", "gaussian", True, False),
        ),
    )
    refused_fields = {"block_size_pattern": "PEFT takes its keys for endings of paths; write one target per block_size"}

    def refusal_of(self, module: Module, sizes: Geometry, settings: Mapping[str, Any]) -> str | None:
        size = settings["block_size"]
        if sizes.inputs % size or sizes.outputs % size:
            return f"block_size = {size} does not divide both its {sizes.inputs} inputs and {sizes.outputs} outputs"
        return None

    def added_to(self, sizes: Geometry, settings: Mapping[str, Any]) -> int:
        """A row of block_size for each of the (outputs / block_size) x (inputs / block_size) blocks."""
        size: int = settings["block_size"]
        return sizes.outputs // size * sizes.inputs

    def start(self, settings: Mapping[str, Any]) -> Start:
        return "exact" if settings["init"] is True else "none"


C3A = C3a()
