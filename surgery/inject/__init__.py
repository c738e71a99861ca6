"""From a plan to an adapted model, through PEFT: exactly or not at all; saving and loading it."""

from surgery.inject.adding import add_adapter
from surgery.inject.apply import apply
from surgery.inject.directory import save_adapters
from surgery.inject.loading import Loaded, load_adapter, load_adapters
from surgery.inject.state import adapter_state, base_model

__all__ = [
    "Loaded",
    "adapter_state",
    "add_adapter",
    "apply",
    "base_model",
    "load_adapter",
    "load_adapters",
    "save_adapters",
]
