"""MiSS: one small matrix that is added to every block of r inputs of the weight."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from surgery.graph import Module
from surgery.methods.by_weight import taken_over
from surgery.methods.catalogue import settings_of
from surgery.methods.geometry import Geometry
from surgery.methods.method import Method, Start

_setting = settings_of("MISS")


class Miss(Method):
    """W_i + D for each block W_i of r inputs; with "bat" W_ij + W_ij @ D_j + D_j for r inputs and r outputs."""

    name = "miss"
    title = "MiSS"
    paper = "https://arxiv.org/abs/2409.15371"
    peft_type = "MISS"
    starts_at = {"miss_block": 0.0}
    settings = (
        _setting("r", "int", "how many inputs a block has"),
        _setting("mini_r", "int", 'with init = "mini", how many outputs D has; it is repeated over the others'),
        _setting("miss_dropout", "probability", "dropout on the adapter's input, in training", name="dropout"),
        _setting(
            "init_weights",
            "choice",
            'the form of D, which starts as zeros: true: (r, outputs); "mini": (r, mini_r); "bat": (r, r) for each r '
            "outputs, multiplied with the weight too; false: as true, but random",
            name="init",
            choices=(True, False, "bat", "mini"),
        ),
    )

    def conflict(self, settings: Mapping[str, Any]) -> str | None:
        if settings["mini_r"] != 1 and settings["init"] != "mini":
            return 'mini_r has an effect with init = "mini" only'
        if settings["dropout"] and settings["init"] == "bat":
            return 'dropout has no effect with init = "bat"'
        return None

    def refusal_of(self, module: Module, sizes: Geometry, settings: Mapping[str, Any]) -> str | None:
        r, mini_r = settings["r"], settings["mini_r"]
        if r > sizes.inputs:
            return f"r = {r} is more than its {sizes.inputs} inputs"
        if settings["init"] == "bat" and (reason := taken_over(module, f'{self.title} with init = "bat"')):
            return reason
        if settings["init"] == "bat" and (sizes.inputs % r or sizes.outputs % r):
            return f'with init = "bat", r = {r} must divide its {sizes.inputs} inputs and {sizes.outputs} outputs'
        if settings["init"] == "mini" and sizes.outputs % mini_r:
            return f'with init = "mini", mini_r = {mini_r} must divide its {sizes.outputs} outputs'
        return None

    def added_to(self, sizes: Geometry, settings: Mapping[str, Any]) -> int:
        """r x outputs; with "mini" r x mini_r."""
        return int(settings["r"]) * (settings["mini_r"] if settings["init"] == "mini" else sizes.outputs)

    def start(self, settings: Mapping[str, Any]) -> Start:
        if settings["init"] == "bat":
            return "close"  # PEFT multiplies in the adapter's precision, which is not that of a half-precision weight
        return "exact" if settings["init"] else "none"

    def needs_floats(self, settings: Mapping[str, Any]) -> bool:
        """Bat multiplies with the weight."""
        return bool(settings["init"] == "bat")


MISS = Miss()
