"""PEANuT: an update that a small network makes of the weight itself (https://arxiv.org/abs/2410.01870)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from surgery.graph import Module
from surgery.methods.catalogue import settings_of
from surgery.methods.geometry import Geometry
from surgery.methods.method import Method, Start
from surgery.methods.setting import Setting

_setting = settings_of("PEANUT")
# transformers' names of activations, but for those with parameters of their own.
_ACTIVATIONS = (
    *("gelu", "gelu_10", "gelu_accurate", "gelu_fast", "gelu_new", "gelu_python", "gelu_python_tanh"),
    *("gelu_pytorch_tanh", "hardswish", "laplace", "leaky_relu", "linear", "mish", "quick_gelu", "relu", "relu2"),
    *("relu6", "sigmoid", "silu", "sqrtsoftplus", "swish", "tanh"),
)


class Peanut(Method):
    """W + scaling * (B @ f(A @ W)), with f a network of 2 * depth layers of width r with residuals, and act_fn.

    A is (r, outputs), B (outputs, r): every column of the weight goes through the network.
    """

    name = "peanut"
    title = "PEANuT"
    paper = "https://arxiv.org/abs/2410.01870"
    peft_type = "PEANUT"
    starts_at = {"peanut_B": 0.0}
    settings = (
        _setting("r", "int", "the width of the network"),
        _setting("depth", "count", "how many hidden layers it has on either side"),
        _setting("act_fn", "choice", "the activation, by transformers' name", choices=_ACTIVATIONS),
        _setting("scaling", "number", "the factor on the update"),
        _setting("init_weights", "bool", "true: B zero; false: all random, not the base model at start", name="init"),
    )

    def unsupported_value(self, setting: Setting, value: object) -> str | None:
        if setting.name == "act_fn" and value in ("prelu", "xielu"):
            return "it has parameters of its own, which PEFT makes anew in every call"
        return None

    def refusal_of(self, module: Module, sizes: Geometry, settings: Mapping[str, Any]) -> str | None:
        if module.weight and module.weight.init.value == "zero":
            return "its weight starts as zeros, and PEANuT makes its update of the weight: nothing would be learnt"
        return None

    def added_to(self, sizes: Geometry, settings: Mapping[str, Any]) -> int:
        """A and B: r * outputs each; the network: 2 * depth matrices of r x r."""
        r: int = settings["r"]
        depth: int = settings["depth"]
        return 2 * r * (sizes.outputs + depth * r)

    def scale(self, module: Module, settings: Mapping[str, Any]) -> float:
        return float(settings["scaling"])

    def start(self, settings: Mapping[str, Any]) -> Start:
        return "exact" if settings["init"] else "none"

    def needs_floats(self, settings: Mapping[str, Any]) -> bool:
        return True


PEANUT = Peanut()
