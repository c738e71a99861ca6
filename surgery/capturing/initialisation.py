"""How a model's own code makes its parameters' first values, seen while it constructs the model."""

from __future__ import annotations

import functools
import re
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from torch._C._functorch import is_functorch_wrapped_tensor
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode, unset_fake_temporarily
from torch.overrides import TorchFunctionMode

from surgery.capturing.filling import Call, looked_at, made_by
from surgery.capturing.known import LARGEST_KNOWN, run
from surgery.capturing.places import calling_place
from surgery.capturing.recorder import function_name, is_in_place
from surgery.capturing.storages import Made, Storages, merged
from surgery.capturing.tensors import tensors_of
from surgery.graph import Init

InitLookup = Callable[[torch.Tensor], Init]

_ELSEWHERE = Made("loaded", None, "")
_NOT_SEEN = Made("unknown", None, "")
_TORCH = f"{Path(torch.__file__).parent}/"
_TORCH_INIT = torch.nn.init.__file__
_LIFT = torch.ops.aten.lift_fresh.default
# What makes no tensor: most of the calls of a construction.
_ASKS = {"device", "dim", "dtype", "grad_fn", "is_meta", "ndim", "numel", "requires_grad", "set_grad_enabled"}
_ASKS |= {"shape", "size"}
_KEEPS_VALUES = {"rename", "resize", "set", "share_memory"}  # in place, but of what a tensor shows, not of its values
# Functions in place, by torch's convention. A library's own of these names belong to the line that asks for them.
_FILLING = {name for kind in (torch.nn.init, torch.Tensor) for name in dir(kind) if re.fullmatch(r"[a-z].*[^_]_", name)}


class InitRecorder(TorchFunctionMode):
    """While active, follows every statement that fills a tensor; `of(parameter)` says how it was made.

    Content is tracked by storage, so `weight.data.zero_()`, `nn.init.zeros_(weight)` under `no_grad` and
    `nn.Parameter(torch.zeros(...))` all tell. What is computed of numbers is computed here too (`0.1 * torch.ones(8)`);
    what is computed of random values is random, and so is what is random in part. Values that came from before, or
    by no function of torch, are loaded; where they are all zeros they are zero, as those of a live model.
    """

    def __init__(self, fake: FakeTensorMode | None = None) -> None:
        """With `fake`, the construction is one on fake tensors of that mode; ops on known values run for real."""
        super().__init__()
        self._fake = fake
        self._storages = Storages()
        # What the next fake tensor is made of. Of `torch.Tensor([0.0, 0.0])` and `torch.from_numpy` only this is seen.
        self._lifted: Made | None = None
        self._stale: set[int] = set()  # storages of real tensors that a fake one was written into

    def of(self, tensor: torch.Tensor) -> Init:
        """How the values of `tensor` were made; unknown if not while this was active."""
        made = self._storages.read(tensor)
        if self._shows_values(tensor):
            made = looked_at(tensor, made or (_ELSEWHERE if self._fake else _NOT_SEEN))
        return (made or _NOT_SEEN).init

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        name = function_name(func)
        if name in _ASKS:
            return func(*args, **kwargs)
        caller = sys._getframe(1)
        initialiser = caller.f_code.co_name if caller.f_code.co_filename == _TORCH_INIT else ""
        if name == "bool" and initialiser and self._fake:
            # `trunc_normal_` draws until no value is out of bounds. Fake tensors have none: one draw will do.
            return False
        in_place = is_in_place(func, name, kwargs) and name not in _KEEPS_VALUES
        written = _written(args, kwargs) if in_place else None
        call = Call(func, name, args, kwargs, written, self._read, functools.partial(_statement, caller))
        result = self._run(call)
        if func is _LIFT:
            self._lifted = looked_at(args[0], call.unknown()) if self._shows_values(args[0]) else None
        elif self._lifted and name == "empty_strided":
            self._storages.write(result, self._lifted)
            self._lifted = None
        elif initialiser == "dirac_" and name in ("zero", "setitem"):
            self._storages.write(args[0], Made("identity", None, call.place()))
        elif name == "setitem":
            self._set_items(call)
        else:
            for tensor in tensors_of(written if in_place else result):
                if in_place or tensor not in self._storages:  # else the very tensor that was given, or a view of it
                    self._storages.write(tensor, made_by(call))
        return result

    def _run(self, call: Call) -> Any:
        """The result of a call: under the fake tensor mode what writes real values into a real tensor runs for real."""
        if self._fake is None or call.func is _LIFT:
            return call.func(*call.args, **call.kwargs)
        if _is_real(call.written):
            if all(map(_is_real, tensors_of((call.args, call.kwargs)))):
                with unset_fake_temporarily():
                    return call.func(*call.args, **call.kwargs)
            self._stale.add(call.written.untyped_storage()._cdata)
        return run(call.func, call.name, call.args, call.kwargs, self._fake)

    def _set_items(self, call: Call) -> None:
        """`tensor[index] = value`"""
        tensor, index, value = call.args
        made = call.as_made_here(call.made(value)) if isinstance(value, torch.Tensor) else call.constant(value)
        if any(isinstance(each, FakeTensor) for each in tensors_of(index)):
            self._storages.write(tensor, merged([call.made(tensor), made]))  # nobody knows where
        else:
            self._storages.write(tensor, made, index)

    def _read(self, tensor: torch.Tensor, *, look: bool) -> Made:
        """How values were made that a call is given; `look` if they are still those that it was given."""
        made = self._storages.read(tensor)
        if look and self._shows_values(tensor) and tensor.numel() <= LARGEST_KNOWN:
            return looked_at(tensor, made or _ELSEWHERE)
        return made or (_NOT_SEEN if isinstance(tensor, FakeTensor) else _ELSEWHERE)

    def _shows_values(self, tensor: torch.Tensor) -> bool:
        """Whether a tensor holds values to look at, and they are those that the construction makes."""
        return (
            _is_real(tensor)
            and not (tensor.is_meta or tensor.is_quantized or tensor.is_complex())
            and tensor.layout is torch.strided
            and tensor.numel() > 0
            and tensor.untyped_storage()._cdata not in self._stale
        )


def _statement(caller: FrameType) -> str:
    """The line of the model's code that asks for a function, called in torch or in a library's own initialisers."""
    frame: FrameType | None = caller
    while frame and (frame.f_code.co_filename.startswith(_TORCH) or frame.f_code.co_name in _FILLING):
        frame = frame.f_back
    return calling_place(frame) or calling_place(caller)


def _written(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """The tensor, or the list of them, that a call in place writes into."""
    return kwargs.get("out", args[0] if args else kwargs.get("tensor", kwargs.get("input")))


def _is_real(tensor: Any) -> bool:
    return type(tensor) in (torch.Tensor, torch.nn.Parameter) and not is_functorch_wrapped_tensor(tensor)


def init_from_value(parameter: torch.Tensor) -> Init:
    """What a live value alone can tell: all zeros now is zero; anything else may have been overwritten."""
    if parameter.is_meta or type(parameter) not in (torch.Tensor, torch.nn.Parameter) or not parameter.numel():
        return Init("unknown")
    return Init("zero", "the value it has now") if not parameter.detach().any() else Init("unknown")
