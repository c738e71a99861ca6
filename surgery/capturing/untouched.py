"""A model run and left as it was."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

_CONTAINERS = (dict, OrderedDict, list, set)


@contextmanager
def left_as_it_was(model: torch.nn.Module) -> Iterator[None]:
    """Evaluation mode for the length of a call; what the call sets on modules, such as caches, is taken back.

    What training mode draws at random would differ from run to run.
    """
    before = [(vars(module), dict(vars(module)), _contents(module)) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for attributes, values, contents in before:
            attributes.clear()
            attributes.update(values)
            for container, items in contents:
                container.clear()
                container.extend(items) if isinstance(container, list) else container.update(items)


def _contents(module: torch.nn.Module) -> list[tuple[Any, Any]]:
    """The containers that a module holds, each with a copy: tables of tensors and hooks, lists and dicts of caches."""
    return [(value, type(value)(value)) for value in vars(module).values() if type(value) in _CONTAINERS]
