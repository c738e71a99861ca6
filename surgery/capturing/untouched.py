"""A model run and left as it was."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from types import FunctionType, MethodType, ModuleType
from typing import Any

import torch

_CONTAINERS = (dict, list, set, OrderedDict)  # and no class made from them, which may refuse changes
_NO_HOLDERS = (torch.nn.Module, torch.Tensor, type, ModuleType, FunctionType, MethodType)


@contextmanager
def left_as_it_was(model: torch.nn.Module) -> Iterator[None]:
    """Evaluation mode for the length of a call; what the call sets on modules (caches, hooks) is taken back.

    What training mode draws at random would differ from run to run. Followed are the attributes of modules and of
    the plain objects that they hold, and the lists, dicts and sets among them.
    """
    attributes = [vars(module) for module in model.modules()]
    attributes += [vars(value) for held in attributes for value in held.values() if _holds(value)]
    inside = [value for held in attributes for value in held.values() if type(value) in _CONTAINERS]
    before = [(container, container.copy()) for container in (*attributes, *inside)]
    model.eval()
    try:
        yield
    finally:
        for container, content in before:
            container.clear()
            container.extend(content) if isinstance(container, list) else container.update(content)


def _holds(value: Any) -> bool:
    """Whether a value is a plain object with attributes: a table of positions that fills itself on first use."""
    return hasattr(value, "__dict__") and not isinstance(value, _NO_HOLDERS) and type(vars(value)) is dict
