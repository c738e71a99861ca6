"""An adapted layer taken by itself."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import torch
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import nn


def base_weight(layer: BaseTunerLayer) -> nn.Parameter:
    """The weight of the layer that the adapters were put on."""
    weight = layer.get_base_layer().weight
    assert isinstance(weight, nn.Parameter)
    return weight


def float_copy(layer: BaseTunerLayer) -> Any:
    """An independent copy of an adapted layer, all in float32 (float64 stays), in evaluation mode."""
    assert isinstance(layer, nn.Module)
    copy = deepcopy(layer)
    if base_weight(layer).dtype != torch.float64:
        copy.float()
    return copy.eval()
