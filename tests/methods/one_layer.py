"""One layer, adapted by plain PEFT with the settings of a method under their user's names."""

from __future__ import annotations

import peft
import torch
from adaptable_layers import described
from torch import nn

from surgery.methods import METHODS


def adapted(name: str, layer: nn.Module, **given: object) -> tuple[peft.PeftModel, nn.Module]:
    """The layer alone in an adapted model, and PEFT's layer around it."""
    method = METHODS[name]
    settings = {setting.name: setting.default for setting in method.settings} | given
    config = getattr(peft, method.config)(target_modules=r"0", **method.fields(settings))
    model = peft.get_peft_model(nn.Sequential(layer), config)
    return model, model.base_model.model[0]


def refusal(name: str, layer: nn.Module, **given: object) -> str:
    """Why the method refuses this layer with these settings; empty if it does not."""
    method = METHODS[name]
    settings = {setting.name: setting.default for setting in method.settings} | given
    return method.conflict(settings) or method.refusal(described(layer), settings) or ""


def trained(model: nn.Module) -> dict[str, nn.Parameter]:
    return {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}


def shake(model: nn.Module) -> None:
    """Move every trained parameter, as training would."""
    with torch.no_grad():
        for parameter in trained(model).values():
            parameter.add_(torch.randn_like(parameter) * 0.1)
