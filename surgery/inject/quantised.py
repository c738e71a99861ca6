"""Living with layers whose weight is stored in 8 or 4 bits by bitsandbytes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn

from surgery.capturing.quantised import bits_of

# What the 4-bit layer calls its leave to repack its weight for AVX512-BF16 when it is called for inference.
_REPACKS = "support_avx512bf16_for_cpu"


def size_of(layer: Any) -> list[int]:
    """The shape of a layer's weight as it acts: of a quantised one, what is stored is packed."""
    return [layer.out_features, layer.in_features] if bits_of(layer) else list(layer.weight.shape)


@contextmanager
def keeping_differentiable(model: nn.Module) -> Iterator[None]:
    """While active, no 4-bit layer repacks its weight for inference, and those that have are unpacked.

    On a CPU with AVX512-BF16, bitsandbytes repacks a weight at the first call in evaluation mode; a layer so repacked
    lets no gradient through, in training mode neither, and what reads its weight reads another one.
    """
    layers: list[Any] = [module for module in model.modules() if _REPACKS in vars(module)]
    before = [getattr(layer, _REPACKS) for layer in layers]
    try:
        for layer in layers:
            setattr(layer, _REPACKS, False)
            layer.state_dict()  # bitsandbytes unpacks the weight to save it
        yield
    finally:
        for layer, value in zip(layers, before, strict=True):
            setattr(layer, _REPACKS, value)
