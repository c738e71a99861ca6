"""`module.to(...)` and `module.half()` on fake parameters."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensor


@contextmanager
def converting_fake_modules() -> Iterator[None]:
    """While active, converting a module replaces its fake tensors.

    torch swaps their contents instead, which works or fails by how many references there happen to be; so the same
    model would be captured now on fake tensors, now for real.
    """
    before = torch.nn.Module._apply

    def apply(self: torch.nn.Module, fn: Callable[[Any], Any], recurse: bool = True) -> torch.nn.Module:
        held = [*self._parameters.values(), *self._buffers.values()]
        if not any(isinstance(tensor, FakeTensor) for tensor in held):
            return before(self, fn, recurse)
        for module in self.children() if recurse else ():
            module._apply(fn)
        tables: tuple[dict[str, Any], ...] = (self._parameters, self._buffers)
        for table in tables:
            for name, tensor in table.items():
                if tensor is not None:
                    table[name] = _converted(tensor, fn)
        return self

    torch.nn.Module._apply = apply  # type: ignore[method-assign]
    try:
        yield
    finally:
        torch.nn.Module._apply = before  # type: ignore[method-assign]


def _converted(tensor: torch.Tensor, fn: Callable[[Any], Any]) -> torch.Tensor:
    with torch.no_grad():
        made: torch.Tensor = fn(tensor)
    if made is tensor or not isinstance(tensor, torch.nn.Parameter):
        return made
    return torch.nn.Parameter(made, requires_grad=tensor.requires_grad)
