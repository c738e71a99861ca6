"""OSF: the weak directions of a weight are tuned, its strong ones kept (https://arxiv.org/abs/2504.07097)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from surgery.graph import Module
from surgery.methods.catalogue import settings_of
from surgery.methods.geometry import Geometry
from surgery.methods.method import Method, Start

_setting = settings_of("OSF")


class Osf(Method):
    """W with its SVD learnt beyond the first effective_rank directions: U * S @ V of the weak ones moves.

    Gradients are projected, so that the strong directions stay as they are.
    """

    name = "osf"
    title = "OSF"
    paper = "https://arxiv.org/abs/2504.07097"
    peft_type = "OSF"
    several = False  # PEFT's layer asks for the first active adapter only
    resized = ("effective_rank",)
    settings = (
        _setting(
            "effective_rank",
            "number",
            "how many directions are kept: a whole number, or a share below 1 of the smaller side; none: half of it",
            pattern="rank_pattern",
            optional=True,
        ),
        _setting(
            "init_weights", "bool", "true: the weight's own; false: random, not the base model at start", name="init"
        ),
    )
    refused_fields = {"target_svd_config": "PEFT reads it nowhere"}

    def conflict(self, settings: Mapping[str, Any]) -> str | None:
        rank = settings["effective_rank"]
        if isinstance(rank, float) and rank > 1:
            return f"effective_rank is a whole number, or a share below 1, and not {rank}"
        return None

    def refusal_of(self, module: Module, sizes: Geometry, settings: Mapping[str, Any]) -> str | None:
        smaller, kept = min(sizes.inputs, sizes.outputs), _kept(sizes, settings)
        if not 0 < kept < smaller:
            return f"effective_rank keeps {kept} of its {smaller} directions: at least one is kept, and one tuned"
        return None

    def added_to(self, sizes: Geometry, settings: Mapping[str, Any]) -> int:
        """For each tuned direction its U (outputs), V (inputs) and singular value."""
        return (min(sizes.inputs, sizes.outputs) - _kept(sizes, settings)) * (sizes.outputs + sizes.inputs + 1)

    def start(self, settings: Mapping[str, Any]) -> Start:
        """`close`: PEFT takes what the directions were off what they are, within one matrix product."""
        return "close" if settings["init"] else "none"

    def reads_weights(self, settings: Mapping[str, Any]) -> bool:
        return True


def _kept(sizes: Geometry, settings: Mapping[str, Any]) -> int:
    smaller, rank = min(sizes.inputs, sizes.outputs), settings["effective_rank"]
    if rank is None:
        return smaller // 2
    return int(smaller * rank) if isinstance(rank, float) else min(smaller, rank)


OSF = Osf()
