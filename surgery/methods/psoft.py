"""PSOFT: orthogonal fine-tuning within the weight's principal directions (https://openreview.net/forum?id=FSHrinMArK)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from surgery.graph import Module
from surgery.methods.catalogue import settings_of
from surgery.methods.geometry import Geometry
from surgery.methods.method import Method, Start

_setting = settings_of("PSOFT")
_TERMS, _NITER = 5, 10


class Psoft(Method):
    """W + B @ (R - I) @ A, with B @ A the r principal directions of W, fixed, and R (r, r) learnt, orthogonal at first.

    R = diag(b) @ Cayley(Q) @ diag(a), with Q skew and the vectors a and b learnt.
    """

    name = "psoft"
    title = "PSOFT"
    paper = "https://openreview.net/forum?id=FSHrinMArK"
    peft_type = "PSOFT"
    settings = (
        _setting("r", "int", "how many principal directions of the weight are turned"),
        _setting(
            "psoft_alpha", "number", "divides B and multiplies the update: it changes rounding only", name="alpha"
        ),
        _setting("psoft_dropout", "probability", "dropout on the adapter's input, in training", name="dropout"),
        _setting(
            "ab_svd_init",
            "choice",
            '"psoft_init": A orthogonal; "pissa_init": the singular values shared by A and B',
            choices=("psoft_init", "pissa_init"),
        ),
        _setting("psoft_svd", "choice", "how the directions are found", name="svd", choices=("full", "lowrank")),
        _setting("psoft_svd_lowrank_niter", "count", "iterations of the lowrank SVD", name="svd_lowrank_niter"),
        _setting("random_seed", "count", "the seed of the lowrank SVD"),
        _setting("psoft_orth", "bool", "false: R is any matrix", name="orth"),
        _setting("psoft_mag_b", "bool", "learn factors on the side of the outputs", name="mag_b"),
        _setting("psoft_mag_a", "bool", "learn factors on the side of the inputs", name="mag_a"),
        _setting("use_cayley_neumann", "bool", "a power series for the inverse", name="cayley_neumann"),
        _setting("num_cayley_neumann_terms", "int", "terms of this series, 2 or more"),
        _setting(
            "cayley_neumann_eps", "number", "an upper bound below 1 on the norm of Q in this series", optional=True
        ),
        _setting(
            "init_weights", "bool", "true: R the identity; false: random, not the base model at start", name="init"
        ),
    )

    def conflict(self, settings: Mapping[str, Any]) -> str | None:
        series = settings["cayley_neumann"] and settings["orth"]
        if series and settings["num_cayley_neumann_terms"] < 2:
            return "the first term of the series alone is the identity, whatever is learnt"
        if (settings["cayley_neumann_eps"] or 0) >= 1:
            return "cayley_neumann_eps has to be below 1"
        if not series and (
            settings["num_cayley_neumann_terms"] != _TERMS or settings["cayley_neumann_eps"] is not None
        ):
            return "terms and bound are those of the series: they need cayley_neumann = true and orth = true"
        if settings["svd"] == "full" and (settings["svd_lowrank_niter"] != _NITER or settings["random_seed"]):
            return 'svd_lowrank_niter and random_seed are those of svd = "lowrank"'
        if settings["orth"] and settings["r"] == 1:
            return "one direction cannot be turned: r = 1 needs orth = false"
        return None

    def refusal_of(self, module: Module, sizes: Geometry, settings: Mapping[str, Any]) -> str | None:
        smaller = min(sizes.inputs, sizes.outputs)
        if settings["r"] > smaller:
            return f"its weight has {smaller} principal directions, and r is {settings['r']}"
        if module.weight and module.weight.dtype.removeprefix("torch.") == "float64":
            return "PEFT's PSOFT takes no float64"
        if module.weight and module.weight.init.value == "zero":
            return "its weight starts as zeros and has no principal directions: nothing would be learnt"
        return None

    def added_to(self, sizes: Geometry, settings: Mapping[str, Any]) -> int:
        """R: r * (r - 1) / 2 for Q, or r x r without `orth`; r for each of a and b."""
        r: int = settings["r"]
        turned = r * (r - 1) // 2 if settings["orth"] else r * r
        return turned + r * (bool(settings["mag_a"]) + bool(settings["mag_b"]))

    def scale(self, module: Module, settings: Mapping[str, Any]) -> float:
        return float(settings["alpha"] / settings["r"])

    def start(self, settings: Mapping[str, Any]) -> Start:
        return "exact" if settings["init"] else "none"

    def starts(self, settings: Mapping[str, Any]) -> Mapping[str, float]:
        if not (settings["init"] and settings["orth"]):
            return {}  # without `orth`, R is the identity matrix, which is not one value
        return {"psoft_R.weight": 0.0, "psoft_R.vector_a": 1.0, "psoft_R.vector_b": 1.0}

    def reads_weights(self, settings: Mapping[str, Any]) -> bool:
        """A and B are the weight's principal directions.

        PEFT does not save them, but finds them again when it loads: an SVD that gives a direction the other sign
        gives a trained R another meaning.
        """
        return True


PSOFT = Psoft()
