"""Adapters from elsewhere, PEFT's or others', fitted to a plan: exactly, or with an error that lists the difference.

    adapter = read_adapter("pytorch_lora_weights.safetensors")      # its header, no values
    fitted = fit(adapter, plan, shapes)                             # E0519 unless keys and shapes are a bijection
    values = fitted.read()                                          # by adapter, by key of its PEFT checkpoint

`surgery.load_adapter` does this for a model that carries the plan's adapters.
"""

from surgery.importing.fit import Fitted, fit
from surgery.importing.foreign import ForeignAdapter, read_adapter

__all__ = ["Fitted", "ForeignAdapter", "fit", "read_adapter"]
