"""What the runtime says when it cannot do what it was asked: nothing was changed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import isfinite
from typing import NoReturn

import torch
from torch import nn

from surgery.diagnostics import Diagnostic, SurgeryError
from surgery.planning.swapping import Obstacle, not_swappable
from surgery.runtime.adapter import Adapter


def refuse(message: str, obstacles: Iterable[Obstacle], place: str | None = None) -> None:
    """Raise E0520 with these obstacles, if there are any."""
    if found := list(obstacles):
        raise SurgeryError(not_swappable(message, found, place=place))


def refuse_bare(model: nn.Module) -> NoReturn:
    """Raise E0520 for a model without PEFT's layers."""
    _raise(
        f"a {type(model).__name__} carries no PEFT adapters",
        "give the model that `surgery.apply(model, plan)` returned, or `torch.compile` of it",
    )


def check_name_is_free(name: str, names: Sequence[str]) -> None:
    if name in names:
        _raise(f"there is an adapter `{name}` already", "`replace` it, or give another name")


def check_name_is_held(name: str, names: Sequence[str]) -> None:
    if name not in names:
        _raise(f"no adapter is called `{name}`", f"there are {', '.join(f'`{one}`' for one in names)}; `load` it first")


def check_is_not_in_use(name: str, active: str) -> None:
    if name == active:
        _raise(f"the adapter `{name}` is in the model", "`switch` to another one first, or `disable`")


def finite(factor: float) -> float:
    """The number, if it is one that a scale can be multiplied by."""
    if not isfinite(factor):
        _raise(f"{factor} is no factor", "give a finite number: 1 is as trained, 0 switches the adapter off")
    return float(factor)


def check_scales_are_finite(adapter: Adapter, factor: float) -> None:
    """A scale beyond single precision is infinite where it is a tensor, and makes NaN of an update of 0."""
    largest = max((abs(applied.scale) for applied in adapter.sites.values()), default=0.0) * abs(factor)
    if largest > torch.finfo(torch.float32).max:
        _raise(f"a scale of {largest:g} is beyond single precision", "give a smaller factor")


def _raise(message: str, help: str) -> NoReturn:
    raise SurgeryError(Diagnostic("E0520", message, helps=(help,)))
