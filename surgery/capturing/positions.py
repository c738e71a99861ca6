"""Positions in fake tensors that code asks for: what a router picks, where a mask is true.

Which experts a `topk` of features picks depends on weights that nobody knows yet. Some are drawn, so that a loop over
the experts picked runs on some of them, as it would with any weights; the others are unknown, not unreached.
"""

from __future__ import annotations

from typing import Any

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
    """The arguments of `tensor[index]`, known masks in the index replaced by where they are true.

    How many values a mask takes from a fake tensor is known then.
    """
    subject, index, *rest = args
    parts = index if isinstance(index, tuple) else (index,)
    found: list[Any] = []
    for part in parts:
        if isinstance(part, torch.Tensor) and part.dtype is torch.bool and not isinstance(part, FakeTensor):
            with unset_fake_temporarily():
                found.extend(part.nonzero(as_tuple=True))
        else:
            found.append(part)
    return (subject, found[0] if len(found) == 1 else tuple(found), *rest)
