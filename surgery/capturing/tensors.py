"""The tensors inside what functions and models take and return."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import fields, is_dataclass
from typing import Any

import torch


def tensors_of(value: Any) -> Iterator[torch.Tensor]:
    """The tensors in nested tuples, lists, dicts and slices, as torch functions take and return them."""
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, (tuple, list)):
        for item in value:
            yield from tensors_of(item)
    elif isinstance(value, dict):
        for item in value.values():
            yield from tensors_of(item)
    elif isinstance(value, slice):
        yield from tensors_of((value.start, value.stop, value.step))


def named_tensors(value: Any, name: str = "") -> Iterator[tuple[str, torch.Tensor]]:
    """The tensors in nested containers and dataclasses, each with the way to it (`hidden.0`)."""
    if isinstance(value, torch.Tensor):
        yield name or "0", value
        return
    items: Iterable[tuple[Any, Any]] = ()
    if isinstance(value, Mapping):
        items = value.items()
    elif isinstance(value, (tuple, list)):
        names = getattr(value, "_fields", range(len(value)))
        items = zip(names, value, strict=True)
    elif is_dataclass(value) and not isinstance(value, type):
        items = ((field.name, getattr(value, field.name)) for field in fields(value))
    for key, item in items:
        # The keywords of the call itself come as one last dict: their names need no index before them.
        yield from named_tensors(item, f"{name}.{key}" if name else ("" if isinstance(item, dict) else str(key)))
