"""AdaLoRA: LoRA as singular values and vectors, whose least important ranks are dropped while it trains."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from surgery.graph import Module
from surgery.methods.catalogue import settings_of
from surgery.methods.geometry import Geometry
from surgery.methods.lora_reasons import REFUSED_FIELDS
from surgery.methods.method import Method, Start, alpha_advice
from surgery.methods.setting import Setting

_setting = settings_of("ADALORA")
_UNREAD = "PEFT's AdaLoRA has it from LoRA's configuration and does not read it"


class Adalora(Method):
    """W + alpha / init_r * B @ (E * A), with A (init_r, inputs), B (outputs, init_r) and singular values E (init_r).

    PEFT divides by `ranknum`, a parameter of one number that is never trained nor saved. The ranks are dropped by
    `update_and_allocate` of PEFT's model, which has to be called in every training step, as `surgery train` does.
    """

    name = "adalora"
    title = "AdaLoRA"
    paper = "https://openreview.net/forum?id=lq62uWRJjiY"
    peft_type = "ADALORA"
    layers = ("Linear", "Conv2d", "Conv1D")
    starts_at = {"lora_E": 0.0}
    several = False
    settings = (
        _setting("init_r", "int", "the rank of every module at the start"),
        _setting("target_r", "int", "the average rank of the modules at the end"),
        _setting("lora_alpha", "number", "the update is scaled by alpha / init_r", name="alpha"),
        _setting("lora_dropout", "probability", "dropout on the adapter's input, in training", name="dropout"),
        _setting("total_step", "int", "how many training steps there will be"),
        _setting("tinit", "count", "how many steps are trained before ranks are dropped"),
        _setting("tfinal", "count", "how many steps are trained with the final ranks"),
        _setting("deltaT", "int", "the steps from one dropping of ranks to the next"),
        _setting("beta1", "probability", "smoothing of the importance of a parameter over the steps"),
        _setting("beta2", "probability", "smoothing of the uncertainty of that importance"),
        _setting("orth_reg_weight", "number", "the weight of the loss that keeps A and B orthogonal", also=(0,)),
        _setting(
            "init_lora_weights",
            "choice",
            "true: E zero; false: all random, not the base model at start",
            name="init",
            choices=(True, False),
        ),
    )
    refused_fields = {
        **REFUSED_FIELDS,
        "r": "ranks start at init_r and end at target_r",
        "use_dora": "PEFT refuses it in AdaLoRA",
        **dict.fromkeys(("use_rslora", "use_bdlora", "lora_bias"), _UNREAD),
        "alpha_pattern": _UNREAD,
        "rank_pattern": "it is found in training",
    }

    def unsupported_value(self, setting: Setting, value: object) -> str | None:
        if setting.name == "init" and isinstance(value, str):
            return "AdaLoRA starts as true or false, and PEFT takes every text for true"
        return None

    def conflict(self, settings: Mapping[str, Any]) -> str | None:
        steps, tinit, tfinal = settings["total_step"], settings["tinit"], settings["tfinal"]
        if steps is not None and tinit >= steps - tfinal:
            return f"no step is left to drop ranks in: total_step = {steps}, tinit = {tinit}, tfinal = {tfinal}"
        if settings["target_r"] >= settings["init_r"]:
            return f"target_r = {settings['target_r']} is not below init_r = {settings['init_r']}: PEFT fails on it"
        if 0 in (settings["beta1"], settings["beta2"]):
            return "beta1 and beta2 must be above 0"
        return None

    def added_to(self, sizes: Geometry, settings: Mapping[str, Any]) -> int:
        """A: init_r x inputs x kernel; B: outputs x init_r; E: init_r; and ranknum."""
        rank: int = settings["init_r"]
        return rank * (sizes.inputs * sizes.kernel_size + sizes.outputs + 1) + 1

    def frozen_in(self, sizes: Geometry, settings: Mapping[str, Any]) -> int:
        return 1

    def frozen_parameters(self, settings: Mapping[str, Any]) -> tuple[str, ...]:
        return ("ranknum",)

    @property
    def mixes(self) -> bool:
        """PEFT's mixed model takes its layers, and has nothing that drops their ranks."""
        return False

    def refusal_of(self, module: Module, sizes: Geometry, settings: Mapping[str, Any]) -> str | None:
        if sizes.groups > 1:
            return f"PEFT's AdaLoRA makes the update of a convolution without groups, and it has {sizes.groups}"
        return None

    @property
    def has_scale(self) -> bool:
        """PEFT's factor is divided by the rank besides, so that it says little by itself."""
        return False

    def scale(self, module: Module, settings: Mapping[str, Any]) -> float:
        """PEFT's factor, which is divided by the rank besides."""
        return float(settings["alpha"])

    def start(self, settings: Mapping[str, Any]) -> Start:
        return "exact" if settings["init"] else "none"

    def advice_on(self, sizes: Geometry, settings: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
        yield from alpha_advice(settings["init_r"], settings["alpha"])


ADALORA = Adalora()
