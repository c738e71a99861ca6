"""LoRA (https://arxiv.org/abs/2106.09685), with rsLoRA's scale (2312.03732) and DoRA's magnitudes (2402.09353)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from math import sqrt
from typing import Any

from surgery.graph import Module
from surgery.methods.catalogue import settings_of
from surgery.methods.geometry import Geometry
from surgery.methods.method import Method, Start, alpha_advice
from surgery.methods.reasons import LATER
from surgery.methods.setting import Setting

_setting = settings_of("LORA")

_OTHER_VARIANTS = (
    *("megatron_config", "megatron_core", "loftq_config", "eva_config", "corda_config", "lora_ga_config"),
    *("velora_config", "alora_invocation_tokens", "use_qalora", "qalora_group_size", "monteclora_config"),
    *("use_bdlora", "arrow_config", "kasa_config"),
)
_LATER_INITS = ("pissa", "olora", "corda", "loftq", "orthogonal", "lora_ga")


class Lora(Method):
    """W + scale * B @ A, with A (r, inputs) and B (outputs, r)."""

    name = "lora"
    title = "LoRA"
    paper = "https://arxiv.org/abs/2106.09685"
    peft_type = "LORA"
    layers = ("Linear", "Conv1d", "Conv2d", "Conv3d", "Embedding", "Conv1D")
    starts_at = {"lora_B": 0.0, "lora_embedding_A": 0.0}
    settings = (
        _setting("r", "int", "the rank", pattern="rank_pattern"),
        _setting("lora_alpha", "number", "the scale is alpha / r", name="alpha", pattern="alpha_pattern"),
        _setting("lora_dropout", "probability", "dropout on the adapter's input, in training", name="dropout"),
        _setting("use_rslora", "bool", "scale by alpha / sqrt(r)", name="rslora"),
        _setting("use_dora", "bool", "learn the weight's magnitudes apart from its directions", name="dora"),
        _setting(
            "init_lora_weights",
            "choice",
            'true: A uniform, B zero; "gaussian": A normal, B zero; false: both random, not the base model at start',
            name="init",
            choices=(True, False, "gaussian"),
        ),
    )
    refused_fields = {
        "trainable_token_indices": LATER,
        "lora_bias": LATER,
        "ensure_weight_tying": LATER,
        "layer_replication": "it changes the model itself",
        "runtime_config": "it is not part of an adapter",
        **dict.fromkeys(_OTHER_VARIANTS, LATER),
    }

    def unsupported_value(self, setting: Setting, value: object) -> str | None:
        if setting.name != "init" or not isinstance(value, str):
            return None
        if value in _LATER_INITS or value.startswith("pissa_niter_"):
            return "it rewrites the base weights, and comes later"
        return "it comes later" if value in ("eva", "mica") else None

    def refusal_of(self, module: Module, sizes: Geometry, settings: Mapping[str, Any]) -> str | None:
        r = settings["r"]
        if r % sizes.groups:
            return f"PEFT needs a rank that its {sizes.groups} groups divide, and r is {r}"
        if sizes.is_convolution and module.numbers.get("dilation", 1) != 1:
            return "PEFT's LoRA drops the dilation of a convolution"
        if settings["dora"] and sizes.groups > 1:
            return f"PEFT's DoRA pairs the wrong channels of a convolution with groups ({sizes.groups})"
        if settings["dora"] and module.weight and module.weight.init.value == "zero":
            return "its weight starts as zeros, and DoRA divides by the weight's norm"
        return None

    def added_to(self, sizes: Geometry, settings: Mapping[str, Any]) -> int:
        """A: r x inputs x kernel (PEFT gives it no groups); B: outputs x r / groups; DoRA: one magnitude per output."""
        r: int = settings["r"]
        down = r * sizes.inputs * sizes.kernel_size
        up = sizes.outputs * (r // sizes.groups)
        return down + up + (sizes.outputs if settings["dora"] else 0)

    def scale(self, module: Module, settings: Mapping[str, Any]) -> float:
        r, alpha = settings["r"], settings["alpha"]
        return float(alpha / sqrt(r) if settings["rslora"] else alpha / r)

    def start(self, settings: Mapping[str, Any]) -> Start:
        return "none" if settings["init"] is False else "exact"

    def merging(self, module: Module, settings: Mapping[str, Any]) -> str | None:
        if module.numbers.get("groups", 1) > 1:
            return "PEFT does not merge into convolutions with groups"
        return None

    def reads_weights(self, settings: Mapping[str, Any]) -> bool:
        return bool(settings["dora"])

    def advice_on(self, sizes: Geometry, settings: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
        if not settings["rslora"]:
            yield from alpha_advice(settings["r"], settings["alpha"])


LORA = Lora()
