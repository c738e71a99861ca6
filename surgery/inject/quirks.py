"""What PEFT says needlessly while it injects, and what it leaves to be put right."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from peft import PeftConfig
from peft.tuners.lora import LoraLayer
from torch import nn

_HANDLED = (
    "fan_in_fan_out is set to",
    "LoRA adapter added to ConvNd layer with groups",
    "Adapter name '.*' should not be contained in the prefix",
    "`is_gradient_checkpointing` is deprecated",
    r"The following (rank|alpha)_pattern keys did not match",  # it looks for modules alone
)


@contextmanager
def handled_warnings() -> Iterator[None]:
    """No warnings about what the plan has decided, or what is compared afterwards."""
    with warnings.catch_warnings():
        for message in _HANDLED:
            warnings.filterwarnings("ignore", message=message)
        yield


def renew_magnitudes(layer: object, adapter: str, config: PeftConfig) -> None:
    """DoRA's magnitudes, which PEFT makes before the cast: in half precision they would not be the weight's norm."""
    if isinstance(layer, LoraLayer) and adapter in layer.lora_magnitude_vector:
        variant: Any = layer.lora_variant[adapter]
        variant.init(layer, adapter_name=adapter, config=config)


def inherit_training(wrapper: nn.Module, wrapped: nn.Module, known: set[nn.Module]) -> None:
    """New modules start in training mode; give those that are not known the mode of the module they are put around."""
    for module in wrapper.modules():
        if module not in known:
            module.training = wrapped.training
