"""Tensors of example calls."""

from __future__ import annotations

import torch


def floats(*shape: int) -> torch.Tensor:
    """Standard normal."""
    return torch.randn(shape)


def ints(below: int, *shape: int) -> torch.Tensor:
    """Uniform in [0, below)."""
    return torch.randint(0, below, shape)


def mask(*shape: int) -> torch.Tensor:
    """All true."""
    return torch.ones(shape, dtype=torch.bool)


def upto(count: int) -> torch.Tensor:
    """0, 1, ... count - 1."""
    return torch.arange(count)
