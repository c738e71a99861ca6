"""Everything of a model but the numbers in its tensors, as plain data that can be compared."""

from __future__ import annotations

from typing import Any

import torch
from peft import PeftConfig
from torch import nn


def structure(value: Any, met: dict[int, int] | None = None) -> Any:
    """Types, attributes, containers and their order; an object met before is a reference to its first place."""
    met = {} if met is None else met
    if value is None or isinstance(value, (bool, int, float, str, bytes, torch.dtype, torch.device, torch.Size, type)):
        return value
    if isinstance(value, tuple):
        return type(value).__qualname__, [structure(inner, met) for inner in value]
    if id(value) in met:
        return "the same as", met[id(value)]
    met[id(value)] = len(met)
    kind = type(value).__qualname__
    if isinstance(value, torch.Tensor):
        return kind, tuple(value.shape), value.stride(), value.dtype, value.device, value.requires_grad, value.is_leaf
    if isinstance(value, PeftConfig):
        return kind, structure(value.to_dict())
    if isinstance(value, dict):
        return kind, [(structure(key, met), structure(inner, met)) for key, inner in value.items()]
    if isinstance(value, list):
        return kind, [structure(inner, met) for inner in value]
    if isinstance(value, (set, frozenset)):
        return kind, sorted(map(repr, value))
    if isinstance(value, nn.Module) or type(value).__module__.startswith("peft."):
        return kind, structure(vars(value), met)
    return kind, getattr(value, "__qualname__", None)


def numbers(tensor: torch.Tensor) -> dict[str, float]:
    """What two draws of one distribution agree on, for a large tensor."""
    value = tensor.detach().double()
    return {"least": value.min().item(), "largest": value.max().item(), "spread": value.std(unbiased=False).item()}


def first_difference(left: Any, right: Any, place: str = "") -> str | None:
    """Where two structures differ, and how; None if they are equal."""
    if type(left) is type(right) and isinstance(left, (list, tuple)) and len(left) == len(right):
        for at, (a, b) in enumerate(zip(left, right, strict=True)):
            inner = f"{place}.{a[0]}" if isinstance(a, tuple) and a and isinstance(a[0], str) else f"{place}.{at}"
            if (found := first_difference(a, b, inner)) is not None:
                return found
        return None
    return None if left == right else f"{place}: {left!r:.300} is not {right!r:.300}"


def traces(model: nn.Module) -> Any:
    """Everything of a model that injecting could leave a trace in: its objects by identity, its numbers bit for bit."""
    modules = {
        path: (id(module), type(module), {name: _shallow(value) for name, value in vars(module).items()})
        for path, module in model.named_modules(remove_duplicate=False)
    }
    named = [*model.named_parameters(remove_duplicate=False), *model.named_buffers(remove_duplicate=False)]
    tensors = {name: (id(t), t.data_ptr(), t.requires_grad, t.dtype, t.device, _bytes(t)) for name, t in named}
    config = {k: repr(v) for k, v in vars(model.config).items()} if hasattr(model, "config") else None
    return modules, tensors, config


def _shallow(value: Any) -> Any:
    if isinstance(value, dict):
        return id(value), [(key, id(inner)) for key, inner in value.items()]
    return value if isinstance(value, bool) else id(value)


def _bytes(tensor: torch.Tensor) -> bytes:
    return b"" if tensor.is_meta else tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes()
