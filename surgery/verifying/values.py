"""Other values in place of a model's own, for a moment."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import nn


@contextmanager
def standing_in(values: Mapping[nn.Parameter, torch.Tensor]) -> Iterator[None]:
    """Other values in place of the parameters' own, whose storage is put back untouched."""
    own = {parameter: parameter.data for parameter in values}
    try:
        for parameter, value in values.items():
            parameter.data = value.to(parameter.device)
        yield
    finally:
        for parameter, data in own.items():
            parameter.data = data


@contextmanager
def moved_at_random(parameters: Iterable[nn.Parameter], by: float) -> Iterator[None]:
    """While active, each number of the parameters is off by a normal one times `by`, the same ones each time."""
    generator = torch.Generator().manual_seed(0)
    values = {
        parameter: parameter.detach() + by * torch.randn(parameter.shape, generator=generator).to(parameter)
        for parameter in parameters
    }
    with standing_in(values):
        yield
