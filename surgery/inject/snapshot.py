"""A model's structure and flags, so that a failed injection leaves no trace."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn


class Snapshot:
    """What injecting may change in a model: module and parameter objects in their places, attributes, hooks,
    training flags, `requires_grad`, the storage behind each tensor, and the model's `config`.

    Values inside a storage are not copied: the initialisations that write base weights are refused before.
    """

    def __init__(self, model: nn.Module) -> None:
        self._attributes = [_Attributes(module) for module in model.modules()]
        config = getattr(model, "config", None)
        if hasattr(config, "__dict__"):
            self._attributes.append(_Attributes(config))
        tensors: list[torch.Tensor] = [*model.parameters(), *model.buffers()]
        self._tensors = [(tensor, tensor.requires_grad, tensor.data) for tensor in tensors]

    def restore(self) -> None:
        for attributes in self._attributes:
            attributes.restore()
        for tensor, requires_grad, data in self._tensors:
            tensor.data = data
            tensor.requires_grad_(requires_grad)


class _Attributes:
    """The attributes of an object, and the contents of those that are dictionaries (children, hooks, ...)."""

    def __init__(self, owner: Any) -> None:
        self._owner = owner
        self._values: dict[str, Any] = dict(owner.__dict__)
        self._contents = {name: dict(value) for name, value in self._values.items() if isinstance(value, dict)}

    def restore(self) -> None:
        self._owner.__dict__.clear()
        self._owner.__dict__.update(self._values)
        for name, content in self._contents.items():
            container = self._values[name]
            # One that refuses to be changed, as the configuration of diffusers' models, has not been changed.
            if not _same(container, content):
                container.clear()
                container.update(content)


def _same(left: dict[Any, Any], right: dict[Any, Any]) -> bool:
    """Whether the keys and their order are equal, and the values the same objects."""
    return list(left) == list(right) and all(left[key] is right[key] for key in right)
