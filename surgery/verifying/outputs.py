"""Calling a model and taking its outputs apart."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields, is_dataclass
from typing import Any

import torch
from torch import nn

from surgery.capturing.quantised import without_repacking
from surgery.inject.state import Adapted, tuner_of

SEED = 0


def arguments(inputs: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The arguments of an example call: a mapping, a pair (args, kwargs), a sequence, or one value."""
    if isinstance(inputs, Mapping):
        return (), dict(inputs)
    if isinstance(inputs, (tuple, list)):
        if len(inputs) == 2 and isinstance(inputs[0], (tuple, list)) and isinstance(inputs[1], Mapping):
            return tuple(inputs[0]), dict(inputs[1])
        return tuple(inputs), {}
    return (inputs,), {}


def tensors_of(value: Any) -> Iterator[torch.Tensor]:
    """The floating-point tensors of a nested result, in order."""
    if isinstance(value, torch.Tensor):
        if value.is_floating_point():
            yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from tensors_of(item)
    elif isinstance(value, (tuple, list)):
        for item in value:
            yield from tensors_of(item)
    elif is_dataclass(value):
        for field in fields(value):
            yield from tensors_of(getattr(value, field.name))


def call(model: nn.Module, inputs: Any) -> list[torch.Tensor]:
    """The output tensors of one call, with the random state seeded: two calls see the same noise."""
    args, kwargs = arguments(inputs)
    torch.manual_seed(SEED)
    return list(tensors_of(model(*args, **kwargs)))


def difference(left: list[torch.Tensor], right: list[torch.Tensor]) -> float:
    """The largest absolute difference between two results; NaN agrees with NaN, infinity where the shapes differ."""
    if [tensor.shape for tensor in left] != [tensor.shape for tensor in right]:
        return float("inf")
    largest = 0.0
    for a, b in zip(left, right, strict=True):
        same = (a == b) | (a.isnan() & b.isnan())
        gap = torch.where(same, 0.0, (a.double() - b.double()).abs())
        largest = max(largest, float("inf") if gap.isnan().any() else gap.max().item() if gap.numel() else 0.0)
    return largest


@contextmanager
def disabled(model: Adapted) -> Iterator[None]:
    """The base model: adapters off; on again afterwards, with `requires_grad` as it was (PEFT sets it anew)."""
    flags = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    tuner_of(model).disable_adapter_layers()
    try:
        yield
    finally:
        tuner_of(model).enable_adapter_layers()
        for parameter, flag in flags:
            parameter.requires_grad_(flag)


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Evaluation mode, with training flags, gradients and random state put back; no weight is repacked for it."""
    modes = [(module, module.training) for module in model.modules()]
    gradients = [(parameter, parameter.grad) for parameter in model.parameters()]
    for parameter, _ in gradients:
        parameter.grad = None
    try:
        with torch.random.fork_rng(), without_repacking(model):
            model.eval()
            yield
    finally:
        for module, mode in modes:
            module.training = mode
        for parameter, gradient in gradients:
            parameter.grad = gradient
