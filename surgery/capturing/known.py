"""Running for real what is known, while everything large is fake.

A fake tensor has no values, so code that asks for one (`.item()`, `.tolist()`, `if mask.all()`) stops. Much of what it
asks for comes from small integers that are known: ids and masks of the example call, a `linspace` of drop rates. Ops
whose tensors are all real run for real; where one of them is fake, so is the result.
"""

from __future__ import annotations

from math import prod
from typing import Any

import torch
from torch._C._functorch import is_functorch_wrapped_tensor
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode, unset_fake_temporarily
from torch.utils._pytree import tree_map_only

from surgery.capturing.positions import with_drawn_positions, with_output_size, with_positions_for_masks
from surgery.capturing.tensors import tensors_of

LARGEST_KNOWN = 2**16  # values; a larger tensor is cheaper fake
LARGEST_MADE = 2**24  # values of a result
LARGEST_FLOAT = 2**10  # values of a result of floats
# What makes tensors of numbers alone, and how large a result of floats is worth knowing.
_MADE_OF_NUMBERS = dict.fromkeys(("arange", "linspace", "logspace"), LARGEST_KNOWN)
_MADE_OF_NUMBERS |= dict.fromkeys(("tensor", "as_tensor", "scalar_tensor"), LARGEST_FLOAT)
_MADE_OF_NUMBERS |= dict.fromkeys(("zeros", "ones", "full", "empty"), 0)
# With a `_`: methods of a tensor and functions of `torch.nn.init` that replace all its values.
_FILLS = {
    "uniform", "normal", "trunc_normal", "zero", "zeros", "ones", "fill", "constant", "random", "exponential",
    "kaiming_uniform", "kaiming_normal", "xavier_uniform", "xavier_normal",
}  # fmt: skip
# Its kernel for fake tensors takes bfloat16 only; those for real ones take float32 too.
_BFLOAT16_IF_FAKE = {"_grouped_mm", "grouped_mm"}
_INDEXING = {"getitem", "setitem"}


def run(func: Any, name: str, args: tuple[Any, ...], kwargs: dict[str, Any], mode: FakeTensorMode) -> Any:
    """`func(*args, **kwargs)` under a fake tensor mode, for real where all values are known."""
    if name == "deepcopy" and len(args) > 1:
        # A copy of a fake tensor shares its mode: torch would copy that too, with weak references it cannot count.
        args[1][id(mode)] = mode
    tensors = list(tensors_of((args, kwargs)))
    if tensors and all(map(_is_real, tensors)):
        if _stay_small(tensors):
            with unset_fake_temporarily():
                return func(*args, **kwargs)
        # Left real, the mode would compute arithmetic on them for real, however large.
        args, kwargs = tree_map_only(torch.Tensor, lambda tensor: fake_tensor(tensor, mode), (args, kwargs))
    if name in _FILLS and len(tensors) == 1 and isinstance(tensors[0], FakeTensor) and func.__name__.endswith("_"):
        return tensors[0]  # nothing to fill; asking the mode takes longer than making the tensor
    if name in _MADE_OF_NUMBERS and not tensors:
        return _made(func, name, args, kwargs)
    if name in _BFLOAT16_IF_FAKE:
        narrow = tree_map_only(torch.Tensor, lambda t: t.bfloat16() if t.is_floating_point() else t, (args, kwargs))
        return func(*narrow[0], **narrow[1]).to(tensors[0].dtype)
    if name in _INDEXING:
        args = with_positions_for_masks(args)
    elif name == "repeat_interleave":
        kwargs = with_output_size(args, kwargs)
    if any(isinstance(tensor, FakeTensor) for tensor in tensors):
        args, kwargs = _all_fake((args, kwargs), mode)
    return with_drawn_positions(func(*args, **kwargs), func, name, args, kwargs)


def _made(func: Any, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> torch.Tensor:
    """A tensor that is made of Python numbers only: for real, if it is small and may be asked for."""
    made: torch.Tensor = func(*args, **kwargs)
    largest = _MADE_OF_NUMBERS[name] if made.is_floating_point() else LARGEST_KNOWN
    if made.numel() > largest or made.device.type != "cpu" or made.is_complex():
        return made
    with unset_fake_temporarily():
        real: torch.Tensor = func(*args, **kwargs)
        return real.zero_() if name == "empty" else real


def _all_fake(call: Any, mode: FakeTensorMode) -> Any:
    """A call's tensors but for single numbers, as the mode would convert them, without its detours."""
    known = {id(tensor): tensor for tensor in tensors_of(call) if tensor.ndim and _is_real(tensor)}
    if not known:
        return call
    return tree_map_only(torch.Tensor, lambda t: fake_tensor(t, mode) if id(t) in known else t, call)


def _is_real(tensor: torch.Tensor) -> bool:
    """Whether a tensor holds its own values: it is neither fake nor the wrapper that `vmap` puts around one."""
    return type(tensor) in (torch.Tensor, torch.nn.Parameter) and not is_functorch_wrapped_tensor(tensor)


def _stay_small(tensors: list[torch.Tensor]) -> bool:
    """Whether even an outer product of all these would be small.

    Control flow asks for integers, and for a few floats such as drop rates; tables of rotations cost time for nothing.
    """
    sizes = {id(tensor): tensor.numel() for tensor in tensors}.values()
    if any(tensor.is_floating_point() for tensor in tensors):
        return prod(sizes) <= LARGEST_FLOAT
    return max(sizes) <= LARGEST_KNOWN and prod(sizes) <= LARGEST_MADE


def as_fake(call: Any, mode: FakeTensorMode) -> Any:
    """An example call with fake tensors for all but small integers, which stay known, as copies."""

    def fake(tensor: torch.Tensor) -> torch.Tensor:
        if isinstance(tensor, FakeTensor):
            return tensor
        if not tensor.is_floating_point() and not tensor.is_complex() and tensor.numel() <= LARGEST_KNOWN:
            return tensor.detach().cpu().clone() if not tensor.is_meta else fake_tensor(tensor, mode)
        return fake_tensor(tensor, mode)

    return tree_map_only(torch.Tensor, fake, call)


def fake_tensor(tensor: torch.Tensor, mode: FakeTensorMode) -> torch.Tensor:
    """A fake tensor like this one, on the CPU if it is on `meta`: autocast and device checks refuse meta tensors."""
    if type(tensor) not in (torch.Tensor, torch.nn.Parameter) or tensor.layout is not torch.strided:
        return mode.from_tensor(tensor, static_shapes=True)
    device = torch.device("cpu") if tensor.is_meta else tensor.device
    # Made directly: the way through the mode is slow, which counts where a model has 50,000 parameters.
    with unset_fake_temporarily(), torch._C.DisableTorchFunction():
        like = torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device="meta")
        return FakeTensor(mode, like, device)
