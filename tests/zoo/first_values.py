"""What an init fact says of a parameter, against the values that a real construction gave it."""

from __future__ import annotations

import torch


def kind_of(values: torch.Tensor) -> str:
    """`zero`, `constant`, `identity` (also of a convolution), or `varied` where values differ."""
    values = values.detach()
    if not values.any():
        return "zero"
    if bool((values == values.flatten()[0]).all()):
        return "constant"
    unit = torch.empty_like(values)
    if values.ndim == 2:
        torch.nn.init.eye_(unit)
    elif 3 <= values.ndim <= 5:
        torch.nn.init.dirac_(unit)
    return "identity" if values.ndim in (2, 3, 4, 5) and torch.equal(values, unit) else "varied"


def agrees(said: str, values: torch.Tensor) -> bool:
    """Whether the values are as `said`. One number may be drawn; unknown is right only where values differ."""
    kind = kind_of(values)
    if said == "random":
        return kind == "varied" or values.numel() == 1
    if said == "loaded":
        return kind != "zero"
    return kind == ("varied" if said == "unknown" else said)
