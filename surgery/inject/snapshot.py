"""A model's structure and flags, so that a failed injection leaves no trace."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensor

from surgery.collector import paused_collector
from surgery.diagnostics import Diagnostic, SurgeryError
from surgery.inject.surroundings import Surroundings
from surgery.inject.tree import named_modules

T = TypeVar("T")
_NOTHING: dict[Any, Any] = {}


def atomically(model: nn.Module, change: Callable[[], T], written: Iterable[nn.Module] = ()) -> T:
    """Do `change()`; if anything stops it, Ctrl-C as well, the model is as before when the exception goes on.

    `written` are the modules whose weights `change` gives other values: these are copied beforehand. An error of
    PEFT's or PyTorch's becomes a SurgeryError (E0509). In inference mode too, new tensors are plain ones.
    """
    surroundings = Surroundings()
    with paused_collector():
        snapshot = Snapshot(model, written)
    # Nothing may come between the end of the change and the return: an interrupt there would leave a changed model.
    try:
        with paused_collector(), torch.inference_mode(False):
            return change()
    except BaseException as error:
        with _held_interrupts():
            surroundings.restore()
            snapshot.restore()
        if isinstance(error, Exception) and not isinstance(error, SurgeryError):
            raise SurgeryError(_failed(error)) from error
        raise


class Snapshot:
    """What injecting may change in a model: module and parameter objects in their places, attributes, hooks,
    training flags, `requires_grad`, the storage behind each tensor, and the model's `config`.

    Values inside a storage are copied for the modules in `written` only.
    """

    def __init__(self, model: nn.Module, written: Iterable[nn.Module] = ()) -> None:
        modules = [module for _, module in named_modules(model)]
        self._attributes = [_Attributes(module) for module in modules]
        config = getattr(model, "config", None)
        if hasattr(config, "__dict__"):
            self._attributes.append(_Attributes(config))
        tensors: dict[int, torch.Tensor] = {}
        for module in modules:
            tensors |= {id(t): t for t in (*module._parameters.values(), *module._buffers.values()) if t is not None}
        self._tensors = [
            (tensor, tensor.requires_grad, None if isinstance(tensor, FakeTensor) else tensor.data)
            for tensor in tensors.values()
        ]
        self._values = [(p.data, p.detach().clone()) for module in written for p in module.parameters()]

    def restore(self) -> None:
        for attributes in self._attributes:
            attributes.restore()
        with torch.inference_mode():  # tensors made in it cannot be changed outside of it; others can in both
            for tensor, requires_grad, data in self._tensors:
                if data is not None:
                    tensor.data = data
                tensor.requires_grad_(requires_grad)
            for data, value in self._values:
                data.copy_(value)


class _Attributes:
    """The attributes of an object, and the contents of those that are containers (children, hooks, ...)."""

    __slots__ = ("_contents", "_owner", "_values")

    def __init__(self, owner: Any) -> None:
        self._owner = owner
        self._values: dict[str, Any] = owner.__dict__.copy()
        self._contents: list[tuple[Any, Any]] = [
            (value, value.copy() if value else _NOTHING)
            for value in self._values.values()
            if isinstance(value, (dict, list))
        ]

    def restore(self) -> None:
        if not _same(self._owner.__dict__, self._values):
            self._owner.__dict__.clear()
            self._owner.__dict__.update(self._values)
        for container, content in self._contents:
            # One that refuses to be changed, as the configuration of diffusers' models, has not been changed.
            if not _same(container, content):
                container.clear()
                container.extend(content) if isinstance(container, list) else container.update(content)


def _same(left: Any, right: Any) -> bool:
    """Whether the keys and their order are equal, and the values the same objects."""
    if len(left) != len(right):
        return False
    if isinstance(left, dict):
        return list(left) == list(right) and all(left[key] is right[key] for key in right)
    return all(one is other for one, other in zip(left, right, strict=True))


@contextmanager
def _held_interrupts() -> Iterator[None]:
    """Ctrl-C takes effect after this block. Python raises KeyboardInterrupt in the main thread only."""
    if threading.current_thread() is not threading.main_thread() or signal.getsignal(signal.SIGINT) is None:
        yield
        return
    came: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, _: came.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if came:
        signal.raise_signal(signal.SIGINT)


def _failed(error: Exception) -> Diagnostic:
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)) or "DefaultCPUAllocator" in str(error):
        way_out = "give the process more memory, or adapt the model on meta and load its weights afterwards"
    else:
        way_out = "take the module that it names out of its target, or report this with the plan"
    return Diagnostic(
        "E0509",
        f"PEFT could not inject the plan: {type(error).__name__}: {error}",
        notes=("the model is as it was before",),
        helps=(way_out,),
    )
