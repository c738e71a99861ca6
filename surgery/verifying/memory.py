"""How many bytes the adapters of a model take."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import nn

from surgery.inject.state import Adapted, base_model, trainable_tensors, tuner_of
from surgery.planning.plan import Plan
from surgery.verifying.verification import Memory


def added_memory(model: Adapted, plan: Plan) -> Memory:
    """The bytes of the trained tensors, and of what the adapters hold besides them; shared storage counts once."""
    trained = {id(tensor): tensor for tensor in trainable_tensors(model, plan)}
    seen = {_storage(tensor) for tensor in _base_tensors(model)} | {_storage(tensor) for tensor in trained.values()}
    buffers: dict[str, int] = {}
    for name, tensor in _held(model):
        if _storage(tensor) not in seen:
            seen.add(_storage(tensor))
            buffers[name] = buffers.get(name, 0) + _size(tensor)
    return Memory(sum(map(_size, trained.values())), plan.totals.adapter_bytes, buffers)


def _base_tensors(model: Adapted) -> Iterator[torch.Tensor]:
    """The tensors of the user's model: all that lie outside of adapted layers, or in their base layers."""
    base = base_model(model)
    layers = [module for module in base.modules() if isinstance(module, BaseTunerLayer)]
    inside = {id(part) for layer in layers if isinstance(layer, nn.Module) for part in layer.modules()}
    inside -= {id(part) for layer in layers for part in layer.get_base_layer().modules()}
    for module in base.modules():
        if id(module) not in inside:
            yield from (tensor for tensor in module._parameters.values() if tensor is not None)
            yield from (tensor for tensor in module._buffers.values() if tensor is not None)


def _held(model: Adapted) -> Iterator[tuple[str, torch.Tensor]]:
    """The tensors that PEFT's layers and its tuner hold beside the base layers, each with its container's name."""
    base = base_model(model)
    holders: list[Any] = [tuner_of(model), *(m for m in base.modules() if isinstance(m, BaseTunerLayer))]
    for holder in holders:
        for name, module in holder.named_children():
            if module is not base and name != "base_layer":
                yield from ((name, tensor) for tensor in (*module.parameters(), *module.buffers()))
        for table in (holder._parameters, holder._buffers):
            yield from ((name, tensor) for name, tensor in table.items() if tensor is not None)
        # Indices that are kept in plain dictionaries.
        for name, value in vars(holder).items():
            if isinstance(value, dict) and name not in ("_parameters", "_buffers", "_modules"):
                yield from ((name, tensor) for tensor in value.values() if isinstance(tensor, torch.Tensor))


def _size(tensor: torch.Tensor) -> int:
    return tensor.numel() * tensor.element_size()


def _storage(tensor: torch.Tensor) -> tuple[int, int]:
    return tensor.untyped_storage()._cdata, int(tensor.storage_offset())
