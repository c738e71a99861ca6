"""Copies of one PEFT layer around other modules: what PEFT would build there, without building it again.

PEFT makes a layer in about a millisecond, most of it spent on finding out what to make. For modules that differ in
nothing which PEFT looks at, the second layer can only come out like the first, so it is copied. A copy is taken
by a recipe: how to make each object of the layer anew, found out once.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable
from typing import Any, TypeAlias

import torch
from torch import nn

# Makes a value of the copy, from the module that the copied layer is put around and the path of that module.
Maker: TypeAlias = Callable[[nn.Module, str], Any]

_CONTAINERS = (dict, OrderedDict, list, set, tuple)


class Recipe:
    """How to copy a PEFT layer, or a part of one, that stands around the module `base` at `path`.

    Modules, containers and tensors in it are made anew; parameters are left uninitialised, buffers copied. `base`
    and `path` are replaced by those of the copy. All other objects, and those in `shared`, are what the model
    has once: the copies refer to them, as PEFT's layers do. Raises ValueError for a tensor or module that the
    layer holds twice.
    """

    def __init__(self, base: nn.Module, path: str, shared: Iterable[Any] = ()) -> None:
        self._base = base
        self._path = path
        self._shared = {id(value) for value in shared}
        self._met: set[int] = set()

    def of(self, value: Any) -> Maker | None:
        """How to make a copy of a value, or None where the copy is the value itself."""
        if value is self._base:
            return lambda base, path: base
        if isinstance(value, (nn.Module, torch.Tensor)):
            if id(value) in self._met:
                raise ValueError(f"a layer of PEFT holds one {type(value).__name__} twice")
            self._met.add(id(value))
            return self._of_tensor(value) if isinstance(value, torch.Tensor) else self._of_module(value)
        if id(value) in self._shared:
            return None
        if type(value) is str:
            return (lambda base, path: path) if value == self._path else None
        return self._of_container(value) if type(value) in _CONTAINERS else None

    def _of_module(self, module: nn.Module) -> Maker:
        cls, state = type(module), vars(module)
        # Most of a module's attributes are empty containers for hooks.
        empty = [(name, type(value)) for name, value in state.items() if type(value) in _CONTAINERS and not value]
        emptied = {name for name, _ in empty}
        makers = [(n, maker) for n, v in state.items() if n not in emptied and (maker := self.of(v)) is not None]
        new = cls.__new__

        def make(base: nn.Module, path: str) -> nn.Module:
            attributes = state.copy()
            for name, container in empty:
                attributes[name] = container()
            for name, maker in makers:
                attributes[name] = maker(base, path)
            copy = new(cls)
            object.__setattr__(copy, "__dict__", attributes)  # past nn.Module's, which looks for tensors
            return copy

        return make

    def _of_tensor(self, tensor: torch.Tensor) -> Maker:
        if not isinstance(tensor, nn.Parameter):
            return lambda base, path: tensor.clone()
        shape, dtype, device, trained = tensor.shape, tensor.dtype, tensor.device, tensor.requires_grad
        return lambda base, path: nn.Parameter(torch.empty(shape, dtype=dtype, device=device), trained)

    def _of_container(self, value: Any) -> Maker | None:
        kind: Any = type(value)
        if isinstance(value, dict):
            makers = {key: maker for key, inner in value.items() if (maker := self.of(inner)) is not None}
            if not makers:
                return lambda base, path: value.copy()
            return lambda base, path: kind(value | {key: maker(base, path) for key, maker in makers.items()})
        items = [(item, self.of(item)) for item in value]
        if all(maker is None for _, maker in items):
            return None if kind is tuple else lambda base, path: value.copy()
        return lambda base, path: kind(item if maker is None else maker(base, path) for item, maker in items)
