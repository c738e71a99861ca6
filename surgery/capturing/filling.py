"""What a torch function fills its result with: one number, random values, values of the tensors it is given."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Protocol

import torch
from torch._subclasses.fake_tensor import unset_fake_temporarily
from torch.utils._pytree import tree_map_only

from surgery.capturing.storages import Made, merged
from surgery.capturing.tensors import tensors_of

_CONSTANT = {"zeros": 0.0, "zeros_like": 0.0, "new_zeros": 0.0, "zero": 0.0}
_CONSTANT |= {"ones": 1.0, "ones_like": 1.0, "new_ones": 1.0}
_FILLS = {"fill": 1, "constant": 1, "full": 1, "full_like": 1, "new_full": 2}  # where the number stands
_EMPTY = {"empty", "empty_like", "new_empty", "empty_strided", "new_empty_strided", "new"}
# Where the data stands: numbers in lists, arrays of numpy, tensors.
_OF_DATA = {"tensor": 0, "as_tensor": 0, "asarray": 0, "scalar_tensor": 0, "new_tensor": 1}
_COPIES = {
    "bfloat16", "clone", "contiguous", "cpu", "cuda", "deepcopy", "detach", "double", "float", "half", "to", "type",
    "type_as",
}  # fmt: skip
# What takes values from its tensors and makes none.
_REARRANGES = {
    "broadcast_to", "cat", "concat", "dstack", "expand", "flatten", "flip", "gather", "getitem", "hstack",
    "index_select", "movedim", "permute", "repeat", "repeat_interleave", "reshape", "roll", "stack", "swapaxes", "t",
    "take", "tile", "transpose", "unsqueeze", "vstack",
}  # fmt: skip
_INITIALISERS = {name.rstrip("_") for name in vars(torch.nn.init) if name.endswith("_") and not name.startswith("_")}
_DRAWS = _INITIALISERS - {"constant", "ones", "zeros", "eye", "dirac"}


class Reader(Protocol):
    """Tells how the values of a tensor were made; with `look` also by what they are, where they are there to see."""

    def __call__(self, tensor: torch.Tensor, *, look: bool) -> Made: ...


@dataclass(slots=True)  # not frozen: one is made for every call of a construction
class Call:
    """A call of a torch function: the tensor that it writes into, if it is one in place, and where it stands."""

    func: Any
    name: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    written: Any
    read: Reader
    place: Callable[[], str]

    def argument(self, position: int, *names: str) -> Any:
        """What is given there or under one of these names; else None."""
        given = next((self.kwargs[name] for name in names if name in self.kwargs), None)
        return self.args[position] if given is None and len(self.args) > position else given

    def made(self, tensor: torch.Tensor) -> Made:
        """How the values of a tensor were made that the call is given; it has overwritten what it writes into."""
        return self.read(tensor, look=tensor is not self.written)

    def constant(self, number: Any) -> Made:
        """One number everywhere, if it is one that is known."""
        return _constant(number, self.place())

    def unknown(self) -> Made:
        return Made("unknown", None, self.place())

    def as_made_here(self, made: Made) -> Made:
        return replace(made, place=self.place())


def made_by(call: Call) -> Made:
    """How a call makes the values of its result. What keeps values as they are keeps the place where they were made."""
    name = call.name
    if name in _CONSTANT:
        return call.constant(_CONSTANT[name])
    if name in _FILLS:
        number = call.argument(_FILLS[name], "fill_value", "value", "val")
        return call.constant(call.made(number).number if isinstance(number, torch.Tensor) else number)
    if name in _DRAWS or _tagged(name, torch.Tag.nondeterministic_seeded):
        return _drawn(call)
    if name == "eye":
        return Made("identity", None, call.place())
    if name in _EMPTY or name.startswith("_foreach_"):
        return call.unknown()
    if name == "copy":
        return call.as_made_here(call.made(call.argument(1, "src", "other")))
    if name in _COPIES:
        source = call.made(call.args[0])
        return source if source.place else call.as_made_here(source)
    if name in _OF_DATA:
        return _of_data(call, call.argument(_OF_DATA[name], "data", "obj"))
    if name == "pad":
        return _padded(call)
    return _computed(call)


def looked_at(tensor: torch.Tensor, made: Made) -> Made:
    """What is known of how values were made, and what the values that are there to look at show."""
    with unset_fake_temporarily(), torch._C.DisableTorchFunction(), torch.no_grad():
        first = tensor[(0,) * tensor.ndim]
        if bool((tensor == first).all()) and (made.value != "random" or tensor.numel() > 1):
            made = _constant(float(first), made.place) if made.value != "loaded" or not first else made
        elif made.value not in ("random", "loaded"):
            is_identity = made.value == "identity" if tensor.ndim > 2 else _is_eye(tensor)
            made = Made("identity" if is_identity else "unknown", None, made.place)
    return made


def _is_eye(tensor: torch.Tensor) -> bool:
    if tensor.ndim != 2 or int(tensor.count_nonzero()) != min(tensor.shape):
        return False
    return bool((tensor.diagonal() == 1).all())


def _drawn(call: Call) -> Made:
    """Random values; one number where the bounds or the spread of a draw in place leave nothing to chance."""
    if call.func.__name__ == "uniform_":
        low = call.argument(1, "a", "from")
        if low is not None and low == call.argument(2, "b", "to"):
            return call.constant(low)
    if call.func.__name__ == "normal_" and call.argument(2, "std") == 0:
        return call.constant(call.argument(1, "mean") or 0.0)
    return Made("random", None, call.place())


def _of_data(call: Call, data: Any) -> Made:
    """A tensor of numbers that exist outside of torch, or of other tensors."""
    known = [call.made(tensor) for tensor in tensors_of(data)]
    if known:
        return call.as_made_here(merged(known))
    with unset_fake_temporarily(), torch._C.DisableTorchFunction():
        values = torch.as_tensor(data)
    return looked_at(values, call.unknown()) if values.numel() and not values.is_complex() else call.unknown()


def _padded(call: Call) -> Made:
    inside = call.made(call.argument(0, "input"))
    if not any(call.argument(1, "pad")) or call.argument(2, "mode") not in (None, "constant"):
        return inside
    return merged([inside, call.constant(call.argument(3, "value") or 0.0)])


def _computed(call: Call) -> Made:
    """What comes of the tensors that a function is given."""
    kwargs = {key: value for key, value in call.kwargs.items() if key != "out"}
    sources = [call.made(tensor) for tensor in tensors_of((call.args, kwargs))]
    if not sources:
        return call.unknown()
    together = merged(sources)
    if call.name in _REARRANGES and together.value != "identity":
        return together
    if call.name == "mul" and (zero := _zero_factor(call, sources)):
        return zero
    if _tagged(call.name, torch.Tag.pointwise) and all(source.number is not None for source in sources):
        number = _evaluated(call, kwargs)
        return together if number == together.number else call.constant(number)
    return together if together.value in ("random", "loaded") else call.unknown()


def _zero_factor(call: Call, sources: list[Made]) -> Made | None:
    """The zeros that a product is, whatever the other factor."""
    found = next((source for source in sources if source.number == 0), None)
    return call.constant(0.0) if not found and any(_is_number(arg) and arg == 0 for arg in call.args) else found


def _evaluated(call: Call, kwargs: dict[str, Any]) -> float | None:
    """What an elementwise function makes of tensors that are one number each."""

    def one(tensor: torch.Tensor) -> torch.Tensor:
        return torch.full((1,), call.made(tensor).number or 0.0, dtype=tensor.dtype)

    with unset_fake_temporarily(), torch._C.DisableTorchFunction(), torch.no_grad():
        given = tree_map_only(torch.Tensor, one, (call.args, kwargs))
        result = call.func(*given[0], **given[1])
        return float(result) if isinstance(result, torch.Tensor) and not result.is_complex() else None


def _constant(number: Any, place: str) -> Made:
    known = _is_number(number) and number == number  # not NaN
    return Made("constant" if known else "unknown", float(number) if known else None, place)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float))


@functools.cache
def _tagged(name: str, tag: torch.Tag) -> bool:
    """Whether torch's op of this name has a tag: `pointwise`, or `nondeterministic_seeded` for what draws."""
    packet = getattr(torch.ops.aten, name, None)
    return packet is not None and any(tag in getattr(packet, each).tags for each in packet.overloads())
