"""AdaMSS: updates in clusters of a weight's rows (https://neurips.cc/virtual/2025/loc/san-diego/poster/119606)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from surgery.graph import Module
from surgery.methods.catalogue import settings_of
from surgery.methods.geometry import Geometry
from surgery.methods.method import Method, Start

_setting = settings_of("ADAMSS")

_OF_ASA = (
    *("asa_target_subspaces", "init_warmup", "final_warmup", "mask_interval"),
    *("asa_importance_beta", "asa_uncertainty_beta", "asa_schedule_exponent"),
)
_PRUNES = "it takes parameters out of training while it runs, which `train` does not do"
_BY_VALUES = "how many parameters that gives follows from the weights' values, and a plan could not say it"


class Adamss(Method):
    """W + the rows b_k a_k V of each cluster k of W's outputs; V is W's r main right singular directions, frozen.

    k-means clusters the rows of W's left singular vectors. a_k has r numbers, b_k one for each row of its cluster. A
    bias is a column of W and is adapted with it. PEFT needs scikit-learn for it, and does not save the clusters:
    loading computes them again from the base weights.
    """

    name = "adamss"
    title = "AdaMSS"
    paper = "https://neurips.cc/virtual/2025/loc/san-diego/poster/119606"
    peft_type = "ADAMSS"
    starts_at = {"adamss_B": 0.0}
    resized = ("num_subspaces",)
    settings = (
        _setting("r", "int", "how many singular directions are used, at most those that the weight has"),
        _setting("num_subspaces", "int", "how many clusters of outputs there are, at most one for each output"),
        _setting("random_seed", "count", "the seed of the decomposition"),
        _setting(
            "init_weights",
            "choice",
            '"orthogonal": b zero; none: b random, not the base model at start',
            name="init",
            choices=("orthogonal", None),
        ),
    )
    refused_fields = {
        "subspace_rank": f"above 1, a cluster of fewer rows gets a lower rank: {_BY_VALUES}",
        "use_dynamic_rank": _BY_VALUES,
        "svd_threshold": "it belongs to use_dynamic_rank",
        "use_asa": _PRUNES,
        **dict.fromkeys(_OF_ASA, "it belongs to use_asa"),
    }

    def refusal_of(self, module: Module, sizes: Geometry, settings: Mapping[str, Any]) -> str | None:
        if module.weight and module.weight.init.value == "zero":
            return "its weight starts as zeros, and rows that are all the same have no clusters"
        return None

    def added_to(self, sizes: Geometry, settings: Mapping[str, Any]) -> int:
        """a: r for each cluster; b: one for each output. A bias is one more input."""
        r = min(settings["r"], sizes.outputs, sizes.inputs + sizes.has_bias)
        return int(min(settings["num_subspaces"], sizes.outputs) * r + sizes.outputs)

    def saved_besides(self, settings: Mapping[str, Any]) -> str:
        return "V of every module"

    def start(self, settings: Mapping[str, Any]) -> Start:
        return "exact" if settings["init"] else "none"

    def reads_weights(self, settings: Mapping[str, Any]) -> bool:
        return True


ADAMSS = Adamss()
