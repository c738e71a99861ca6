"""LoRA (https://arxiv.org/abs/2106.09685) with the variants of it that PEFT makes from its configuration alone.

rsLoRA's scale (2312.03732), DoRA's magnitudes (2402.09353), the starts of PiSSA (2404.02948), OLoRA (2406.01775) and
MiCA (2604.01694), block-diagonal factors (BD-LoRA).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from math import sqrt
from typing import Any

from surgery.graph import Module
from surgery.methods.catalogue import settings_of
from surgery.methods.geometry import Geometry
from surgery.methods.lora_reasons import ATTENTION, INITS, REFUSED_FIELDS
from surgery.methods.method import Method, Start, alpha_advice
from surgery.methods.setting import Setting

_setting = settings_of("LORA")

# The layers for which PEFT has a start or a variant; the other kinds of layers it refuses, or starts in the usual way.
_LAYERS: Mapping[str, tuple[str, ...]] = {
    "pissa": ("Linear", "Conv1D"),
    "olora": ("Linear",),  # on the transposed weight of a Conv1D it starts as another model
    "orthogonal": ("Linear", "Conv1D"),
    "mica": ("Linear", "Embedding", "Conv1D"),
    "bdlora": ("Linear",),
    "lora_bias": ("Linear", "Conv1d", "Conv2d", "Conv3d", "Conv1D"),
}
_FROM_WEIGHTS = ("pissa", "olora", "mica")


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
            'true: A uniform, B zero; "gaussian": A normal, B zero; "mica": A zero, B the least singular vectors of '
            'the weight, never trained; "pissa", "olora": the greatest part of the weight, taken from the base; '
            '"orthogonal": A and B whose product is zero; false: both random, not the base model at start',
            name="init",
            choices=(True, False, "gaussian", "pissa", "olora", "orthogonal", "mica"),
        ),
        _setting("lora_bias", "bool", "learn a bias with B"),
        _setting(
            "use_bdlora",
            "choice",
            "which factor is block-diagonal, for serving on several devices",
            name="bdlora",
            choices=(None, "A", "B"),
        ),
        Setting("nblocks", "use_bdlora", "int", 1, "how many blocks the factor has that bdlora names"),
    )
    refused_fields = REFUSED_FIELDS

    def unsupported_value(self, setting: Setting, value: object) -> str | None:
        if setting.name != "init" or not isinstance(value, str):
            return None
        return INITS.get("pissa_niter" if value.startswith("pissa_niter_") else value)

    def conflict(self, settings: Mapping[str, Any]) -> str | None:
        variants = [name for name in ("dora", "bdlora") if settings[name]]
        variants += ['init = "mica"'] * (settings["init"] == "mica")
        if len(variants) > 1:
            return f"{' and '.join(variants)} are each a LoRA of their own"
        if settings["lora_bias"] and (settings["dora"] or settings["bdlora"] or not isinstance(settings["init"], bool)):
            return "lora_bias goes with init = true or false, without dora and bdlora"
        if settings["bdlora"] and settings["init"] is not True:
            return "a block-diagonal factor has a start of its own: init must be true"
        if settings["init"] == "orthogonal" and settings["r"] % 2:
            return f"an orthogonal start needs an even r, and r is {settings['r']}"
        return None

    def fields(self, settings: Mapping[str, Any]) -> dict[str, Any]:
        values = super().fields(settings)
        factor: str | None = settings["bdlora"]
        # PEFT looks for each of these texts in the names of the modules: the empty one is in all of them.
        nested = {f"target_modules_bd_{(factor or '').lower()}": [""], "nblocks": settings["nblocks"]}
        return values | {"use_bdlora": nested if factor else None}

    def refusal(self, module: Module, settings: Mapping[str, Any]) -> str | None:
        return ATTENTION if "MultiheadAttention" in module.bases else super().refusal(module, settings)

    def refusal_of(self, module: Module, sizes: Geometry, settings: Mapping[str, Any]) -> str | None:
        r = settings["r"]
        if r % sizes.groups:
            return f"PEFT needs a rank that its {sizes.groups} groups divide, and r is {r}"
        if sizes.is_convolution and _is_dilated(module):
            return "PEFT's LoRA drops the dilation of a convolution"
        if settings["dora"] and sizes.groups > 1:
            return f"PEFT's DoRA pairs the wrong channels of a convolution with groups ({sizes.groups})"
        return _refusal_of_variant(sizes, settings) or _refusal_of_weight(module, sizes, settings)

    def added_to(self, sizes: Geometry, settings: Mapping[str, Any]) -> int:
        """A: r x inputs x kernel (PEFT gives it no groups); B: outputs x r / groups. A block-diagonal factor has only
        its blocks; DoRA has a magnitude, lora_bias a bias for each output.
        """
        r: int = settings["r"]
        down = r * sizes.inputs * sizes.kernel_size
        up = sizes.outputs * (r // sizes.groups)
        blocks: int = settings["nblocks"]
        down //= blocks if settings["bdlora"] == "A" else 1
        up //= blocks if settings["bdlora"] == "B" else 1
        return down + up + sizes.outputs * (int(settings["dora"]) + int(settings["lora_bias"]))

    def frozen_in(self, sizes: Geometry, settings: Mapping[str, Any]) -> int:
        """MiCA's B."""
        return sizes.outputs * int(settings["r"]) if settings["init"] == "mica" else 0

    def frozen_parameters(self, settings: Mapping[str, Any]) -> tuple[str, ...]:
        return ("lora_B", "lora_embedding_B") if settings["init"] == "mica" else ()

    def scale(self, module: Module, settings: Mapping[str, Any]) -> float:
        r, alpha = settings["r"], settings["alpha"]
        return float(alpha / sqrt(r) if settings["rslora"] else alpha / r)

    def start(self, settings: Mapping[str, Any]) -> Start:
        if settings["init"] is False:
            return "none"
        return "close" if settings["init"] in ("pissa", "olora", "orthogonal") else "exact"

    def starts(self, settings: Mapping[str, Any]) -> Mapping[str, float]:
        if settings["init"] == "mica":
            return {"lora_A": 0.0, "lora_embedding_A": 0.0}
        return super().starts(settings)

    def merging(self, module: Module, settings: Mapping[str, Any]) -> str | None:
        if module.numbers.get("groups", 1) > 1:
            return "PEFT does not merge into convolutions with groups"
        if "Conv3d" in module.bases and module.weight and module.weight.shape[2:4] == (1, 1):
            return "PEFT merges this Conv3d as if it were a Conv2d, and fails"
        if settings["lora_bias"] and module.parameter("bias") is None:
            return "lora_bias adds to its bias, and it has none"
        return None

    def reads_weights(self, settings: Mapping[str, Any]) -> bool:
        return settings["dora"] or settings["init"] in _FROM_WEIGHTS

    def needs_floats(self, settings: Mapping[str, Any]) -> bool:
        """PEFT gives orthogonal and block-diagonal factors the dtype of the weight."""
        return self.reads_weights(settings) or settings["init"] == "orthogonal" or settings["bdlora"] is not None

    def writes_weights(self, settings: Mapping[str, Any]) -> bool:
        return settings["init"] in ("pissa", "olora")

    def advice_on(self, sizes: Geometry, settings: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
        if not settings["rslora"]:
            yield from alpha_advice(settings["r"], settings["alpha"])
        if sizes.layer == "Embedding" and settings["dropout"]:
            yield "W0910", "dropout has no effect on an Embedding"
        if settings["nblocks"] > 1 and not settings["bdlora"]:
            yield "W0910", "nblocks has no effect without bdlora"


def _is_dilated(module: Module) -> bool:
    """Whether a convolution's taps lie apart; where that differs between its sides, the graph has no number for it."""
    return bool(module.numbers) and module.numbers.get("dilation", 0) != 1


def _refusal_of_variant(sizes: Geometry, settings: Mapping[str, Any]) -> str | None:
    asked = [settings["init"], *(name for name in ("bdlora", "lora_bias") if settings[name])]
    for name in asked:
        layers = _LAYERS.get(name, (sizes.layer,)) if isinstance(name, str) else (sizes.layer,)
        if sizes.layer not in layers:
            what = f'init = "{name}"' if name == settings["init"] else name
            return f"PEFT has {what} for {' and '.join(layers)} only, not for {sizes.layer}"
    blocks = settings["nblocks"] if settings["bdlora"] else 1
    side = sizes.inputs if settings["bdlora"] == "A" else sizes.outputs
    if settings["r"] % blocks or side % blocks:
        return (
            f"its factor {settings['bdlora']} has sides {settings['r']} and {side}, which {blocks} blocks do not divide"
        )
    return None


def _refusal_of_weight(module: Module, sizes: Geometry, settings: Mapping[str, Any]) -> str | None:
    """What a start that is computed from the weight cannot be computed from."""
    assert module.weight
    zero = module.weight.init.value == "zero"
    if settings["dora"] and zero:
        return "its weight starts as zeros, and DoRA divides by the weight's norm"
    if settings["init"] not in _FROM_WEIGHTS:
        return None
    least = min(sizes.inputs, sizes.outputs)
    if settings["r"] > least:
        return f"r = {settings['r']} is more than the {least} singular vectors that its weight has"
    if module.weight.dtype == "float64":
        return f'PEFT computes init = "{settings["init"]}" in single precision, and refuses float64'
    if settings["init"] == "pissa" and zero:
        return "its weight starts as zeros, of which PiSSA makes two factors of zeros that never get a gradient"
    return None


LORA = Lora()
