"""Positions in fake tensors that code asks for: what a router picks, where a mask is true.

Which experts a `topk` of features picks depends on weights that nobody knows yet. Some are drawn, so that a loop over
the experts picked runs on some of them, as it would with any weights; the others are unknown, not unreached.
"""

from __future__ import annotations

from typing import Any, TypeGuard

import torch
from torch._subclasses.fake_tensor import FakeTensor, unset_fake_temporarily

LARGEST_DRAWN = 2**16  # values
_PICKS = {"topk", "argmax", "argmin", "argsort", "sort", "multinomial", "max", "min"}
_SEED = 0


def with_drawn_positions(result: Any, func: Any, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """`result` of a call on a fake tensor, its positions (int64) replaced by those that random values would give.

    Every call on the same shape draws the same, so that the blocks of a family take the same way.
    """
    given = args[0] if args else kwargs.get("input")
    if name not in _PICKS or not isinstance(given, FakeTensor) or given.numel() > LARGEST_DRAWN:
        return result
    positions = _positions(result)
    if not positions:
        return result
    with unset_fake_temporarily(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(_SEED)
        drawn = func(torch.rand(given.shape), *args[1:], **{k: v for k, v in kwargs.items() if k != "input"})
    return _positions(drawn)[0] if isinstance(result, torch.Tensor) else type(result)((result[0], *_positions(drawn)))


def _positions(result: Any) -> list[torch.Tensor]:
    """The indices that a pick returned: the second of two tensors, or the only one if it holds integers."""
    if isinstance(result, torch.Tensor):
        return [result] if result.dtype is torch.int64 else []
    return [part for part in result[1:] if isinstance(part, torch.Tensor)] if len(result) == 2 else []


def with_positions_for_masks(args: tuple[Any, ...]) -> tuple[Any, ...]:
    """The arguments of `tensor[index]`: known masks replaced by where they are true, known bounds by numbers.

    How many values the index takes from a fake tensor is known then.
    """
    subject, index, *rest = args
    found: list[Any] = []
    for part in index if isinstance(index, tuple) else (index,):
        if isinstance(part, slice):
            found.append(slice(*map(_as_number, (part.start, part.stop, part.step))))
        elif _is_known(part) and part.dtype is torch.bool:
            with unset_fake_temporarily():
                found.extend(part.nonzero(as_tuple=True))
        else:
            found.append(part)
    return (subject, tuple(found) if isinstance(index, tuple) or len(found) != 1 else found[0], *rest)


def with_output_size(args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    """The keywords of `repeat_interleave`, with the size that known numbers of repeats add up to."""
    repeats = args[1] if len(args) > 1 else kwargs.get("repeats")
    if not _is_known(repeats) or repeats.numel() < 2 or "output_size" in kwargs:
        return kwargs
    with unset_fake_temporarily():
        return kwargs | {"output_size": int(repeats.sum())}


def _as_number(bound: Any) -> Any:
    if not _is_known(bound):
        return bound
    with unset_fake_temporarily():
        return int(bound)


def _is_known(value: Any) -> TypeGuard[torch.Tensor]:
    return isinstance(value, torch.Tensor) and not isinstance(value, FakeTensor)
