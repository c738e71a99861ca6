"""FourierFT: a few learnt entries of the update's Fourier spectrum (https://arxiv.org/abs/2405.03003)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from surgery.graph import Module
from surgery.methods.catalogue import settings_of
from surgery.methods.geometry import Geometry
from surgery.methods.method import Method, Start

_setting = settings_of("FOURIERFT")


class FourierFt(Method):
    """W + scaling * the real part of the inverse 2-D DFT of a spectrum with n_frequency learnt entries."""

    name = "fourierft"
    title = "FourierFT"
    paper = "https://arxiv.org/abs/2405.03003"
    peft_type = "FOURIERFT"
    layers = ("Linear", "Conv1D")
    starts_at = {"fourierft_spectrum": 0.0}
    settings = (
        _setting("n_frequency", "int", "how many entries of the spectrum are learnt"),
        _setting("scaling", "number", "the factor on the update"),
        _setting("random_loc_seed", "count", "the seed of where the entries lie"),
        _setting("init_weights", "bool", "true: zeros; false: normal, not the base model at start", name="init"),
    )
    refused_fields = {
        "n_frequency_pattern": "PEFT takes its keys for endings of paths; write one target per n_frequency"
    }

    def refusal_of(self, module: Module, sizes: Geometry, settings: Mapping[str, Any]) -> str | None:
        size, n = sizes.inputs * sizes.outputs, settings["n_frequency"]
        return f"its spectrum has {size:,} entries, and n_frequency is {n:,}" if n > size else None

    def added_to(self, sizes: Geometry, settings: Mapping[str, Any]) -> int:
        """The learnt entries, whatever the size of the layer."""
        n: int = settings["n_frequency"]
        return n

    def scale(self, module: Module, settings: Mapping[str, Any]) -> float:
        return float(settings["scaling"])

    def start(self, settings: Mapping[str, Any]) -> Start:
        return "exact" if settings["init"] else "none"


FOURIERFT = FourierFt()
