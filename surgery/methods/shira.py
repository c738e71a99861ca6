"""SHiRA: a sparse update with random support (https://arxiv.org/abs/2406.13175)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from surgery.graph import Module
from surgery.methods.by_weight import taken_over
from surgery.methods.catalogue import settings_of
from surgery.methods.geometry import Geometry
from surgery.methods.method import Method, Start

_setting = settings_of("SHIRA")


class Shira(Method):
    """W + S, with S sparse: r * (inputs + outputs) learnt entries, as many as LoRA has, at random places."""

    name = "shira"
    title = "SHiRA"
    paper = "https://arxiv.org/abs/2406.13175"
    peft_type = "SHIRA"
    starts_at = {"shira_weight": 0.0}
    settings = (
        _setting("r", "int", "as many parameters as LoRA of this rank"),
        _setting("random_seed", "count", "the seed of the places; none: torch's own", optional=True),
        _setting("init_weights", "bool", "true: zeros; false: normal, not the base model at start", name="init"),
    )
    refused_fields = {"mask_type": "PEFT has one, `random`; any other is a function, which no file can hold"}

    def refusal_of(self, module: Module, sizes: Geometry, settings: Mapping[str, Any]) -> str | None:
        size, entries = sizes.inputs * sizes.outputs, self.added_to(sizes, settings)
        if entries > size:
            return f"r = {settings['r']} means {entries:,} entries, and its weight has {size:,}"
        return taken_over(module, self.title)

    def added_to(self, sizes: Geometry, settings: Mapping[str, Any]) -> int:
        """r * (inputs + outputs)."""
        r: int = settings["r"]
        return r * (sizes.inputs + sizes.outputs)

    def saved_besides(self, settings: Mapping[str, Any]) -> str:
        return "the places of S"

    def start(self, settings: Mapping[str, Any]) -> Start:
        return "exact" if settings["init"] else "none"


SHIRA = Shira()
