"""DEFT: takes a subspace out of the weight's outputs and puts a learned one in its place; without that, PaRa."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from surgery.graph import Module
from surgery.methods.by_weight import taken_over
from surgery.methods.catalogue import settings_of
from surgery.methods.geometry import Geometry, geometry
from surgery.methods.method import Method, Start, alpha_advice

_setting = settings_of("DEFT")


class Deft(Method):
    """W - Q @ S.T @ W + scale * Q @ R, with Q and S from P (outputs, r): P and relu(P), or P made orthogonal."""

    name = "deft"
    title = "DEFT"
    paper = "https://arxiv.org/abs/2509.22793"
    peft_type = "DEFT"
    layers = ("Linear", "Conv1D")
    settings = (
        _setting("r", "int", "the rank of P and R, at most the number of outputs"),
        _setting("alpha", "number", "R is scaled by alpha / r; none: not scaled", optional=True),
        _setting(
            "decomposition_method",
            "choice",
            '"relu": what is taken out is P @ relu(P).T @ W; "qr": the exact projection on P\'s columns',
            choices=("relu", "qr"),
        ),
        _setting("para", "bool", "only take out and put nothing in: no R (PaRa)"),
        _setting("deft_dropout", "probability", "dropout on R's input, in training", name="dropout"),
        _setting("init_weights", "bool", "true: R puts in what is taken out; false: R random", name="init"),
        _setting("init_scale", "number", "with init = false, R has a standard deviation of 0.02 * init_scale"),
    )

    def conflict(self, settings: Mapping[str, Any]) -> str | None:
        idle = [name for name in ("alpha", "dropout") if settings["para"] and settings[name]]
        idle += ["init_scale"] * (settings["init_scale"] != 1 and (settings["init"] or settings["para"]))
        return f"{' and '.join(idle)} would have no effect" if idle else None

    def refusal_of(self, module: Module, sizes: Geometry, settings: Mapping[str, Any]) -> str | None:
        return taken_over(module, self.title) if sizes.layer == "Linear" else None

    def added_to(self, sizes: Geometry, settings: Mapping[str, Any]) -> int:
        """P: outputs x r; R: r x inputs, but not with para."""
        return _rank(sizes, settings) * (sizes.outputs + (0 if settings["para"] else sizes.inputs))

    def scale(self, module: Module, settings: Mapping[str, Any]) -> float:
        """The factor on R; what is taken out is not scaled."""
        sizes = geometry(module)
        assert isinstance(sizes, Geometry)
        return float(settings["alpha"] / _rank(sizes, settings)) if settings["alpha"] else 1.0

    def start(self, settings: Mapping[str, Any]) -> Start:
        return "close" if settings["init"] and not settings["para"] else "none"

    def reads_weights(self, settings: Mapping[str, Any]) -> bool:
        return bool(settings["init"] and not settings["para"])

    def advice_on(self, sizes: Geometry, settings: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
        if settings["alpha"]:
            yield from alpha_advice(_rank(sizes, settings), settings["alpha"])


def _rank(sizes: Geometry, settings: Mapping[str, Any]) -> int:
    return min(int(settings["r"]), sizes.outputs)


DEFT = Deft()
