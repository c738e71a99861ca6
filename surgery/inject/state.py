"""The adapter's tensors in a live model, under the keys of a PEFT checkpoint."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from peft import PeftMixedModel, PeftModel
from peft.tuners.tuners_utils import BaseTuner, BaseTunerLayer
from peft.utils.other import ModulesToSaveWrapper
from torch import nn

from surgery.inject.patterns import MODEL_PREFIX
from surgery.planning.plan import Plan

Adapted = PeftModel | PeftMixedModel


def base_model(adapted: Adapted) -> nn.Module:
    """The user's model inside PEFT's wrappers: plan paths are relative to it."""
    model = tuner_of(adapted).model
    assert isinstance(model, nn.Module)
    return model


def tuner_of(adapted: Adapted) -> BaseTuner:
    """PEFT's tuner: what stands between its wrapper and the user's model."""
    tuner = adapted.base_model
    assert isinstance(tuner, BaseTuner)
    return tuner


def layer_at(model: nn.Module, path: str) -> BaseTunerLayer:
    """The adapted layer at a path of the user's model."""
    layer = model.get_submodule(path)
    assert isinstance(layer, BaseTunerLayer), f"{path} is not adapted"
    return layer


def layer_tensors(layer: BaseTunerLayer, adapter: str) -> Iterator[tuple[str, nn.Parameter]]:
    """The parameters of one adapter on one layer: their name within the layer (without the adapter's), and they."""
    for container in dict.fromkeys(layer.adapter_layer_names):  # DoRA enters its magnitudes a second time
        entries = getattr(layer, container)
        if adapter not in entries:
            continue
        entry = entries[adapter]
        if isinstance(entry, nn.Parameter):
            yield container, entry
            continue
        for name, parameter in entry.named_parameters():
            # PEFT's checkpoints hold DoRA's magnitudes under the name of their container alone.
            yield (container if container == "lora_magnitude_vector" else f"{container}.{name}"), parameter


def adapter_state(adapted: Adapted, plan: Plan) -> dict[str, dict[str, torch.Tensor]]:
    """Per adapter, the live tensors to save: those of its sites and, with the first, the trained modules.

    The keys are those of `adapter_model.safetensors`. Reading them from the layers, not by names from the model's
    state, keeps apart an adapter and a module that happen to be called the same.
    """
    model = base_model(adapted)
    state: dict[str, dict[str, torch.Tensor]] = {}
    for site in plan.sites:
        tensors = state.setdefault(site.adapter, {})
        layer = layer_at(model, site.path)
        for name, tensor in layer_tensors(layer, site.adapter):
            tensors[f"{MODEL_PREFIX}{site.path}.{name}"] = tensor
    for path, wrapper in wrappers(model):
        [(adapter, module)] = wrapper.modules_to_save.items()
        for name, tensor in module.state_dict(keep_vars=True).items():
            state[adapter][f"{MODEL_PREFIX}{path}.{name}"] = tensor
    return state


def wrappers(model: nn.Module) -> Iterator[tuple[str, ModulesToSaveWrapper]]:
    """The modules that are trained in full, as PEFT wraps them, by their path."""
    for path, module in model.named_modules():
        if isinstance(module, ModulesToSaveWrapper):
            yield path, module


def trainable_tensors(adapted: Adapted, plan: Plan) -> Iterator[nn.Parameter]:
    """The parameters that the plan trains: the adapters' and those of the trained modules."""
    model = base_model(adapted)
    for site in plan.sites:
        for _, parameter in layer_tensors(layer_at(model, site.path), site.adapter):
            yield parameter
    for _, wrapper in wrappers(model):
        yield from wrapper.modules_to_save.parameters()
