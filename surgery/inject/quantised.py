"""Living with layers whose weight is stored in 8 or 4 bits by bitsandbytes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import nn

from surgery.capturing.quantised import bits_of, is_repacked
from surgery.diagnostics import Diagnostic
from surgery.planning.words import counted


def size_of(layer: Any) -> list[int]:
    """The shape of a layer's weight as it acts: of a quantised one, what is stored is packed."""
    return [layer.out_features, layer.in_features] if bits_of(layer) else list(layer.weight.shape)


def repacked(model: nn.Module) -> Iterator[Diagnostic]:
    """Why nothing can be trained in front of 4-bit layers that a call for inference has repacked (E0506)."""
    paths = [path.removesuffix(".base_layer") for path, module in model.named_modules() if is_repacked(module)]
    if paths:
        yield Diagnostic(
            "E0506",
            f"{counted(len(paths), '4-bit layer')} cannot be trained through, beginning with `{paths[0]}`",
            notes=("bitsandbytes repacked them at a call in evaluation mode, which rounds their scales to bfloat16",),
            helps=("load the model again, and adapt it before it is called in evaluation mode",),
        )
