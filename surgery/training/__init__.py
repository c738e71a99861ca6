"""The training loop on accelerate: exact saves, exact resume, nothing pickled.

Importing this package loads no torch, so that the command line can read `TrainConfig`'s fields.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from surgery.training.config import TrainConfig

if TYPE_CHECKING:
    from surgery.training.loop import TrainResult, train
    from surgery.training.task import Collates, Evaluates, Task, load_task

_HOMES = {
    "Collates": "surgery.training.task",
    "Evaluates": "surgery.training.task",
    "Task": "surgery.training.task",
    "TrainResult": "surgery.training.loop",
    "load_task": "surgery.training.task",
    "train": "surgery.training.loop",
}

__all__ = ["Collates", "Evaluates", "Task", "TrainConfig", "TrainResult", "load_task", "train"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'surgery.training' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
