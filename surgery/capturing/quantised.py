"""Layers whose weight bitsandbytes has quantised."""

from __future__ import annotations

from torch import nn

from surgery.methods import quantised


def bits_of(layer: nn.Module) -> int | None:
    """How many bits each number of its weight takes, or None for plain floats. By its class: nothing is imported."""
    return quantised.bits_of(kind.__name__ for kind in type(layer).__mro__)
