"""The layers that adapters are put on in these tests: of every kind, each with an input."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

from surgery.capturing.convert import _numbers
from surgery.graph import Init, Module, Parameter

# Sizes differ from each other, so that a formula that takes the wrong one shows; 12 and 20 and 24 have small divisors.
LAYERS: dict[str, tuple[Callable[[], nn.Module], Callable[[], torch.Tensor]]] = {
    "linear": (lambda: nn.Linear(12, 20), lambda: torch.randn(2, 5, 12)),
    "linear_square": (lambda: nn.Linear(16, 16), lambda: torch.randn(2, 5, 16)),
    "linear_wide": (lambda: nn.Linear(24, 8), lambda: torch.randn(2, 5, 24)),
    "linear_without_bias": (lambda: nn.Linear(12, 20, bias=False), lambda: torch.randn(2, 5, 12)),
    "conv1d": (lambda: nn.Conv1d(8, 12, 3, padding=1), lambda: torch.randn(2, 8, 9)),
    "conv1d_pointwise": (lambda: nn.Conv1d(8, 12, 1), lambda: torch.randn(2, 8, 9)),
    "conv1d_grouped": (lambda: nn.Conv1d(8, 12, 3, padding=1, groups=4), lambda: torch.randn(2, 8, 9)),
    "conv2d": (lambda: nn.Conv2d(6, 10, (3, 5), padding=(1, 2)), lambda: torch.randn(2, 6, 9, 9)),
    "conv2d_square": (lambda: nn.Conv2d(6, 10, 3, padding=1), lambda: torch.randn(2, 6, 9, 9)),
    "conv2d_pointwise": (lambda: nn.Conv2d(6, 10, 1), lambda: torch.randn(2, 6, 9, 9)),
    "conv2d_grouped": (lambda: nn.Conv2d(8, 12, 3, padding=1, groups=2), lambda: torch.randn(2, 8, 9, 9)),
    "conv3d": (lambda: nn.Conv3d(4, 6, (1, 3, 3), padding=(0, 1, 1)), lambda: torch.randn(2, 4, 3, 5, 5)),
    "conv3d_pointwise": (lambda: nn.Conv3d(4, 6, 1), lambda: torch.randn(2, 4, 3, 5, 5)),
    "embedding": (lambda: nn.Embedding(30, 12), lambda: torch.randint(30, (2, 5))),
    "transformers_conv1d": (lambda: Conv1D(20, 12), lambda: torch.randn(2, 5, 12)),
    "multihead_attention": (lambda: Attention(16, 4), lambda: torch.randn(2, 5, 16)),
    "layer_norm": (lambda: nn.LayerNorm(12), lambda: torch.randn(2, 5, 12)),
    "rms_norm": (lambda: nn.RMSNorm(12), lambda: torch.randn(2, 5, 12)),
}


class Attention(nn.MultiheadAttention):
    """Self-attention on one input, so that it is called as the other layers are."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__(width, heads, batch_first=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
        return super().forward(x, x, x, need_weights=False)[0]


def described(layer: nn.Module, path: str = "layer") -> Module:
    """The graph's view of a live layer, as capturing makes it."""
    bases = tuple(cls.__name__ for cls in type(layer).__mro__ if issubclass(cls, nn.Module) and cls is not nn.Module)
    parameters = tuple(
        Parameter(name, tuple(value.shape), str(value.dtype).removeprefix("torch."), Init("random"), number)
        for number, (name, value) in enumerate(layer.named_parameters(recurse=False))
    )
    return Module(path, type(layer).__name__, bases, parameters, _numbers(layer))
