"""Calling a model and taking its outputs apart."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import fields, is_dataclass
from typing import Any

import numpy
import torch
from torch import nn

from surgery.capturing.quantised import bits_of, without_repacking
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
    """The output tensors of one call, with the random state seeded: two calls see the same noise.

    The call gets copies of the inputs: a model may write into them, or into a cache among them.
    """
    args, kwargs = _copied(arguments(inputs))
    torch.manual_seed(SEED)
    random.seed(SEED)
    numpy.random.seed(SEED)
    return list(tensors_of(model(*args, **kwargs)))


def _copied(value: Any) -> Any:
    """The same values in tensors of their own; what cannot be copied, as a generator, is given as it is."""
    if isinstance(value, torch.Tensor):
        return value.detach().clone().requires_grad_(value.requires_grad)
    if type(value) in (tuple, list):
        return type(value)(_copied(item) for item in value)
    if type(value) is dict:
        return {key: _copied(item) for key, item in value.items()}
    try:
        return deepcopy(value)
    except (TypeError, RuntimeError):
        return value


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
    """Evaluation mode and gradients recorded; gradients, buffers, attributes of modules and random state are put back.

    No weight is repacked for it.
    """
    gradients = [(parameter, parameter.grad) for parameter in model.parameters()]
    for parameter, _ in gradients:
        parameter.grad = None
    try:
        with _gradients_recorded(), _random_state_kept(), _forward_undone(model), without_repacking(model):
            model.eval()
            yield
    finally:
        for parameter, gradient in gradients:
            parameter.grad = gradient


@contextmanager
def _gradients_recorded() -> Iterator[None]:
    """Also where the caller has switched that off."""
    with torch.inference_mode(False), torch.enable_grad():
        yield


@contextmanager
def _random_state_kept() -> Iterator[None]:
    own, of_numpy = random.getstate(), numpy.random.get_state()
    try:
        with torch.random.fork_rng():
            yield
    finally:
        random.setstate(own)
        numpy.random.set_state(of_numpy)


@contextmanager
def _forward_undone(model: nn.Module) -> Iterator[None]:
    """Put back what a forward may write into its modules: attributes (training flags, counts) and buffers."""
    held = [(names, dict(names)) for module in model.modules() for names in (vars(module), module._buffers)]
    buffers = {
        buffer: buffer.detach().clone()
        for module in model.modules()
        if not bits_of(module)
        for buffer in module._buffers.values()
        if buffer is not None
    }
    try:
        yield
    finally:
        for names, before in held:
            if names.keys() != before.keys() or any(names[name] is not value for name, value in before.items()):
                names.clear()
                names.update(before)
        with torch.no_grad():
            for buffer, value in buffers.items():
                if not buffer.is_meta and not torch.equal(buffer, value):
                    buffer.copy_(value)
