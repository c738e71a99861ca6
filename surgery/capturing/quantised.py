"""Layers whose weight bitsandbytes has quantised."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn

from surgery.methods import quantised

# What the 4-bit layer calls its leave to repack its weight for AVX512-BF16 when it is called for inference.
_REPACKS = "support_avx512bf16_for_cpu"


def bits_of(layer: nn.Module) -> int | None:
    """How many bits each number of its weight takes, or None for plain floats. By its class: nothing is imported."""
    return quantised.bits_of(tuple(kind.__name__ for kind in type(layer).__mro__))


@contextmanager
def without_repacking(model: nn.Module) -> Iterator[None]:
    """While active, calling a 4-bit layer for inference leaves its weight as it is.

    On a CPU with AVX512-BF16, bitsandbytes repacks a weight at the first call in evaluation mode: its scales are
    rounded to bfloat16, and no gradient passes through the layer any more, in training mode neither.
    """
    layers: list[Any] = [module for module in model.modules() if _REPACKS in vars(module)]
    before = [getattr(layer, _REPACKS) for layer in layers]
    try:
        for layer in layers:
            setattr(layer, _REPACKS, False)
        yield
    finally:
        for layer, value in zip(layers, before, strict=True):
            setattr(layer, _REPACKS, value)


def is_repacked(layer: nn.Module) -> bool:
    """Whether that has happened to this layer."""
    state = getattr(layer._parameters.get("weight"), "quant_state", None)
    return bool(getattr(state, "packing_format_for_cpu", False))
