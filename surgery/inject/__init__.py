"""From a plan to an adapted model, through PEFT: exactly or not at all; saving, loading and verifying it."""

from surgery.inject.adding import add_adapter
from surgery.inject.apply import apply
from surgery.inject.directory import save_adapters
from surgery.inject.loading import Loaded, load_adapter, load_adapters
from surgery.inject.state import adapter_state, base_model
from surgery.inject.verification import Verification
from surgery.inject.verify import verify

__all__ = [
    "Loaded",
    "Verification",
    "adapter_state",
    "add_adapter",
    "apply",
    "base_model",
    "load_adapter",
    "load_adapters",
    "save_adapters",
    "verify",
]
