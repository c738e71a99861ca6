"""How a model's own code makes its parameters' first values, seen while it constructs the model."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.overrides import TorchFunctionMode

from surgery.capturing.known import run
from surgery.capturing.places import calling_place
from surgery.capturing.recorder import function_name, is_in_place
from surgery.graph import Init, InitValue

_MAKES_CONSTANT = {"zeros": 0.0, "zeros_like": 0.0, "new_zeros": 0.0, "ones": 1.0, "ones_like": 1.0, "new_ones": 1.0}
_MAKES_FULL = {"full": 1, "full_like": 1, "new_full": 2}
_MAKES_RANDOM = {"rand", "randn", "randint", "rand_like", "randn_like", "randperm", "normal"}
_MAKES_EMPTY = {"empty", "empty_like", "new_empty", "empty_strided"}
_FILLS = {"zero": 0.0, "fill": None, "constant": None}
_DRAWS = {
    "uniform", "normal", "kaiming_uniform", "kaiming_normal", "xavier_uniform", "xavier_normal", "trunc_normal",
    "bernoulli", "exponential", "geometric", "cauchy", "log_normal", "random",
}  # fmt: skip
_KEEPS = {"detach", "requires_grad", "data", "to", "contiguous", "clone", "float", "half", "double", "bfloat16", "cpu"}
_KEEPS |= {"view", "reshape", "t", "T", "transpose", "permute", "unsqueeze", "squeeze", "expand", "type"}
_SCALES = {"mul", "div", "neg"}  # exact zeros stay zeros, random stays random


@dataclass(frozen=True)
class _Made:
    """What is known of a storage's content: `number` where all of it is one value."""

    value: InitValue
    number: float | None
    place: str

    @property
    def init(self) -> Init:
        return Init("zero" if self.number == 0 else self.value, self.place)


class InitRecorder(TorchFunctionMode):
    """While active, follows every statement that fills a tensor; `of(parameter)` says how it was made.

    Content is tracked by storage, so `weight.data.zero_()`, `nn.init.zeros_(weight)` under `no_grad` and
    `nn.Parameter(torch.zeros(...))` all tell. A statement that fills a part of a tensor with something
    else makes the whole `random` if it was random before, else `unknown`.
    """

    def __init__(self, fake: FakeTensorMode | None = None) -> None:
        """With `fake`, the construction is one on fake tensors of that mode; ops on known values run for real."""
        super().__init__()
        self._fake = fake
        self._made: dict[int, _Made] = {}
        self._alive: list[torch.UntypedStorage] = []  # a storage's address means it only while it lives

    def of(self, tensor: torch.Tensor) -> Init:
        """How the values of `tensor` were made; unknown if not while this was active."""
        made = self._made.get(_address(tensor))
        return made.init if made else Init("unknown")

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        name = function_name(func)
        if name == "bool" and sys._getframe(1).f_code.co_filename == torch.nn.init.__file__:
            # `trunc_normal_` draws until no value is out of bounds. Fake tensors have none: one draw will do.
            return False
        subject = args[0] if args else kwargs.get("tensor", kwargs.get("input"))
        before = self._made.get(_address(subject)) if isinstance(subject, torch.Tensor) else None
        result = run(func, name, args, kwargs, self._fake) if self._fake else func(*args, **kwargs)
        if isinstance(result, torch.Tensor):
            seen = _address(result) in self._made
            if name in _KEEPS or (seen and not is_in_place(func, name, kwargs)):
                if before and not seen:  # a copy; else the tensor itself, or a view of it
                    self._set(result, before)
            else:
                self._fill(result, self._what(name, before, args, kwargs))
        elif name == "setitem" and isinstance(subject, torch.Tensor):
            self._fill_part(subject, before, args[2])
        return result

    def _fill(self, tensor: torch.Tensor, made: _Made) -> None:
        """`tensor` was made, or filled; it may be a part of a larger one that was made before."""
        now = self._made.get(_address(tensor))
        is_whole = tensor.untyped_storage().nbytes() <= tensor.numel() * tensor.element_size()
        if is_whole or not now:
            self._set(tensor, made)
        elif now.number is None or now.number != made.number:
            self._set(tensor, _mixed(now))

    def _what(self, name: str, before: _Made | None, args: tuple[Any, ...], kwargs: dict[str, Any]) -> _Made:
        """What the statement makes."""
        if name in _MAKES_CONSTANT:
            return self._constant(_MAKES_CONSTANT[name])
        if name in _MAKES_FULL:
            at = _MAKES_FULL[name]
            return self._constant(kwargs.get("fill_value", args[at] if len(args) > at else None))
        if name in _FILLS:
            given = kwargs.get("val", kwargs.get("value", args[1] if len(args) > 1 else None))
            number = _FILLS[name]
            return self._constant(given if number is None else number)
        if name in _MAKES_RANDOM or name in _DRAWS:
            return _Made("random", None, calling_place())
        if name == "eye":
            return _Made("identity", None, calling_place())
        if name in _MAKES_EMPTY:
            return _Made("unknown", None, calling_place())
        if name == "copy":
            source = self._made.get(_address(args[1])) if len(args) > 1 and isinstance(args[1], torch.Tensor) else None
            # Values that no statement here made came from a file.
            value, number = (source.value, source.number) if source else ("loaded", None)
            return _Made(value, number, calling_place())
        if name in _SCALES and before and (before.number == 0 or before.value == "random"):
            return before
        return _Made("unknown", None, calling_place())

    def _constant(self, number: Any) -> _Made:
        known = isinstance(number, (int, float)) and not isinstance(number, torch.Tensor)
        return _Made("constant" if known else "unknown", float(number) if known else None, calling_place())

    def _fill_part(self, tensor: torch.Tensor, before: _Made | None, value: Any) -> None:
        if before and not (isinstance(value, (int, float)) and before.number == float(value)):
            self._set(tensor, _mixed(before))

    def _set(self, tensor: torch.Tensor, made: _Made) -> None:
        storage = tensor.untyped_storage()
        if storage._cdata not in self._made:
            self._alive.append(storage)
        self._made[storage._cdata] = made


def _mixed(before: _Made) -> _Made:
    return _Made("random" if before.value == "random" else "unknown", None, before.place)


def _address(tensor: torch.Tensor) -> int:
    return tensor.untyped_storage()._cdata


def init_from_value(parameter: torch.Tensor) -> Init:
    """What a live value alone can tell: all zeros now is zero; anything else may have been overwritten."""
    if parameter.is_meta or type(parameter) not in (torch.Tensor, torch.nn.Parameter) or not parameter.numel():
        return Init("unknown")
    return Init("zero", "the value it has now") if not parameter.detach().any() else Init("unknown")


InitLookup = Callable[[torch.Tensor], Init]
