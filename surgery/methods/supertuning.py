"""Super-Tuning: the largest weights are tuned, with LoRA beside them if wanted (https://arxiv.org/abs/2607.09287)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from surgery.graph import Module
from surgery.methods.by_weight import taken_over
from surgery.methods.catalogue import settings_of
from surgery.methods.geometry import Geometry
from surgery.methods.method import Method, Start

_setting = settings_of("SUPERTUNING")


class Supertuning(Method):
    """W + S + alpha / r * B @ A, with S at the weights of largest magnitude; without r, W + S."""

    name = "supertuning"
    title = "Super-Tuning"
    paper = "https://arxiv.org/abs/2607.09287"
    peft_type = "SUPERTUNING"
    starts_at = {"supertuning_values": 0.0, "supertuning_lora_B": 0.0}
    settings = (
        _setting("sparsity", "probability", "the share of the weights that stay as they are"),
        _setting("select_top", "bool", "false: the weights of smallest magnitude in place of the largest"),
        _setting("r", "int", "the rank of a LoRA beside the sparse update; none: no LoRA", optional=True),
        _setting(
            "lora_alpha", "number", "the scale of this LoRA is alpha / r; none: 2 * r", name="alpha", optional=True
        ),
        _setting("lora_dropout", "probability", "dropout on the input of this LoRA, in training", name="dropout"),
        _setting("init_weights", "bool", "true: S and B zero; false: random, not the base model at start", name="init"),
    )
    refused_fields = {
        "save_precomputed_indices": "without its places in the file, an adapter depends on the last bit of the base "
        "weights it is loaded onto"
    }

    def conflict(self, settings: Mapping[str, Any]) -> str | None:
        if settings["r"] is None and (settings["alpha"] is not None or settings["dropout"]):
            return "alpha and dropout are those of the LoRA, and there is none without r"
        return None

    def refusal_of(self, module: Module, sizes: Geometry, settings: Mapping[str, Any]) -> str | None:
        if not _entries(sizes, settings):
            return f"sparsity = {settings['sparsity']} leaves none of its {sizes.inputs * sizes.outputs:,} weights"
        return taken_over(module, self.title)

    def added_to(self, sizes: Geometry, settings: Mapping[str, Any]) -> int:
        """The chosen weights, and LoRA's r * (inputs + outputs)."""
        return _entries(sizes, settings) + (settings["r"] or 0) * (sizes.inputs + sizes.outputs)

    def saved_besides(self, settings: Mapping[str, Any]) -> str:
        return "the places of S"

    def start(self, settings: Mapping[str, Any]) -> Start:
        return "exact" if settings["init"] else "none"

    def reads_weights(self, settings: Mapping[str, Any]) -> bool:
        """Which weights are tuned follows from their magnitudes."""
        return True


def _entries(sizes: Geometry, settings: Mapping[str, Any]) -> int:
    """Rounded as PEFT rounds it."""
    return int(sizes.inputs * sizes.outputs * (1 - settings["sparsity"]))


SUPERTUNING = Supertuning()
