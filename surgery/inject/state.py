"""The adapter's tensors in a live model, under the keys of a PEFT checkpoint."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from peft import PeftMixedModel, PeftModel
from peft.tuners.tuners_utils import BaseTuner, BaseTunerLayer
from peft.utils.other import ModulesToSaveWrapper
from torch import nn

from surgery.inject.patterns import MODEL_PREFIX
from surgery.planning.plan import Plan

Adapted = PeftModel | PeftMixedModel

# What all layers of an adapter use together: PEFT's tuner holds it, and its layers refer to it.
SHARED = ("vblora_vector_bank", "unilora_theta_d", "tinylora_v")
# Buffers that PEFT saves with an adapter, by who holds them.
_LAYER_BUFFERS = ("adamss_newB", "delora_w_norm", "shira_indices", "supertuning_indices", "tinylora_A", "tinylora_B")
# Those that a setting of the adapter's configuration leaves out, to be made anew from a seed.
_LAYER_PROJECTIONS = {
    "save_projection": ("randlora_A", "randlora_B", "tinylora_P"),
    "save_indices": ("unilora_indices_A", "unilora_indices_B", "unilora_scales_A", "unilora_scales_B"),
}
_TUNER_PROJECTIONS = ("vera_A", "vera_B", "pvera_A", "pvera_B", "frod_V", "frod_s_indices")
_TUNER_PREFIX = "base_model."


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
    """The parameters of one adapter on one layer: their name within the layer (without the adapter's), and they.

    What all layers of the adapter share is not among them.
    """
    for container in dict.fromkeys(layer.adapter_layer_names):  # DoRA enters its magnitudes a second time
        entries = getattr(layer, container)
        if container in SHARED or adapter not in entries:
            continue
        entry = entries[adapter]
        if isinstance(entry, nn.Parameter):
            yield container, entry
            continue
        for name, parameter in entry.named_parameters():
            # PEFT's checkpoints hold DoRA's magnitudes under the name of their container alone.
            yield (container if container == "lora_magnitude_vector" else f"{container}.{name}"), parameter


def shared_tensors(adapted: Adapted, adapter: str) -> Iterator[tuple[str, nn.Parameter]]:
    """The parameters that all layers of one adapter use together: their name (without the adapter's), and they."""
    tuner = tuner_of(adapted)
    for container in SHARED:
        entry = _entry(tuner, container, adapter)
        if isinstance(entry, nn.Parameter):
            yield container, entry
        elif entry is not None:
            yield from ((f"{container}.{name}", parameter) for name, parameter in entry.named_parameters())


def _entry(holder: object, container: str, adapter: str) -> Any:
    entries = getattr(holder, container, None)
    return entries[adapter] if entries is not None and adapter in entries else None


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
        config = adapted.peft_config[site.adapter]
        for name, tensor in (*layer_tensors(layer, site.adapter), *_layer_buffers(layer, site.adapter, config)):
            tensors[f"{MODEL_PREFIX}{site.path}.{name}"] = tensor
    for adapter, tensors in state.items():
        for name, tensor in (*shared_tensors(adapted, adapter), *_tuner_buffers(adapted, adapter)):
            tensors[f"{_TUNER_PREFIX}{name}"] = tensor
    for path, wrapper in wrappers(model):
        [(adapter, module)] = wrapper.modules_to_save.items()
        for name, tensor in module.state_dict(keep_vars=True).items():
            state[adapter][f"{MODEL_PREFIX}{path}.{name}"] = tensor
    return state


def _layer_buffers(layer: BaseTunerLayer, adapter: str, config: Any) -> Iterator[tuple[str, torch.Tensor]]:
    kept = [name for setting, names in _LAYER_PROJECTIONS.items() if getattr(config, setting, False) for name in names]
    for container in (*_LAYER_BUFFERS, *kept):
        if (tensor := _entry(layer, container, adapter)) is not None:
            yield container, tensor


def _tuner_buffers(adapted: Adapted, adapter: str) -> Iterator[tuple[str, torch.Tensor]]:
    if not getattr(adapted.peft_config[adapter], "save_projection", False):
        return
    for container in _TUNER_PROJECTIONS:
        entries = getattr(tuner_of(adapted), container, {})
        if adapter in entries:
            yield container, entries[adapter]
        else:  # FRoD has one for each kind of layer
            yield from (
                (f"{container}.{kind}", found)
                for kind in entries
                if (found := _entry(entries, kind, adapter)) is not None
            )


def wrappers(model: nn.Module) -> Iterator[tuple[str, ModulesToSaveWrapper]]:
    """The modules that are trained in full, as PEFT wraps them, by their path."""
    for path, module in model.named_modules():
        if isinstance(module, ModulesToSaveWrapper):
            yield path, module


def trainable_tensors(adapted: Adapted, plan: Plan) -> Iterator[nn.Parameter]:
    """The parameters that the plan trains, each once: the adapters' and those of the trained modules."""
    model = base_model(adapted)
    found: dict[int, nn.Parameter] = {}
    for site in plan.sites:
        found |= {id(parameter): parameter for _, parameter in layer_tensors(layer_at(model, site.path), site.adapter)}
    for adapter in dict.fromkeys(site.adapter for site in plan.sites):
        found |= {id(parameter): parameter for _, parameter in shared_tensors(adapted, adapter)}
    for _, wrapper in wrappers(model):
        found |= {id(parameter): parameter for parameter in wrapper.modules_to_save.parameters()}
    yield from found.values()
