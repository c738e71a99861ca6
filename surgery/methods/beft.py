"""BEFT: a bias that is added to a layer's outputs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from surgery.graph import Module
from surgery.methods.catalogue import settings_of
from surgery.methods.geometry import Geometry
from surgery.methods.method import Method, Start

_setting = settings_of("BEFT")


class Beft(Method):
    """W x + b + c, with c a number for each output."""

    name = "beft"
    title = "BEFT"
    paper = "https://arxiv.org/abs/2509.15974"
    peft_type = "BEFT"
    starts_at = {"beft_bias": 0.0}
    settings = (
        _setting("init_weights", "bool", "true: c zero; false: random, not the base model at start", name="init"),
    )

    def added_to(self, sizes: Geometry, settings: Mapping[str, Any]) -> int:
        """One for each output."""
        return sizes.outputs

    def start(self, settings: Mapping[str, Any]) -> Start:
        return "exact" if settings["init"] else "none"

    def merging(self, module: Module, settings: Mapping[str, Any]) -> str | None:
        return None if module.parameter("bias") else "it has no bias to merge into"


BEFT = Beft()
