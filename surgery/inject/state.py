"""The adapter's tensors in a live model, under the keys of a PEFT checkpoint."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any

import torch
from peft import PeftMixedModel, PeftModel
from peft.tuners.tuners_utils import BaseTuner, BaseTunerLayer
from peft.utils.other import ModulesToSaveWrapper
from torch import nn

from surgery.diagnostics import Diagnostic, SurgeryError
from surgery.inject.parameters import wrapper_of
from surgery.inject.patterns import MODEL_PREFIX
from surgery.methods import METHODS
from surgery.planning.plan import Plan, Site

Adapted = PeftModel | PeftMixedModel

# PEFT saves RandLoRA's projections with each of the layers that refer to them, too.
_REPEATED = ("randlora_A", "randlora_B")
_TUNER_PREFIX = "base_model."


def base_model(adapted: Adapted) -> nn.Module:
    """The user's model inside PEFT's wrappers: plan paths are relative to it."""
    model = tuner_of(adapted).model
    assert isinstance(model, nn.Module)
    return model


def tuner_of(adapted: Adapted) -> BaseTuner:
    """PEFT's tuner: what stands between its wrapper and the user's model. E0509 for a model without one."""
    tuner = getattr(adapted, "base_model", None)  # transformers' own models have one, too
    if not isinstance(tuner, BaseTuner):
        raise SurgeryError(_not_adapted(adapted))
    return tuner


def _not_adapted(model: object) -> Diagnostic:
    help = "give the model that `surgery.apply(model, plan)` returned"
    return Diagnostic("E0509", f"a {type(model).__name__} carries no PEFT adapters", helps=(help,))


def layer_at(model: nn.Module, path: str) -> BaseTunerLayer:
    """The adapted layer at a path of the user's model."""
    layer = model.get_submodule(path)
    assert isinstance(layer, BaseTunerLayer), f"{path} is not adapted"
    return layer


def layer_of(model: nn.Module, site: Site) -> BaseTunerLayer:
    """The layer that adapts a site: of several parameters of one module, each has its own."""
    return wrapper_of(model, site)[1] if site.parameter else layer_at(model, site.path)


def layer_tensors(layer: BaseTunerLayer, adapter: str) -> Iterator[tuple[str, nn.Parameter]]:
    """The parameters of one adapter on one layer: their name within the layer (without the adapter's), and they.

    What all layers of the adapter use together is not among them.
    """
    # DoRA enters its magnitudes a second time. AdaLoRA's number of ranks is a parameter that PEFT does not list.
    for container in dict.fromkeys((*layer.adapter_layer_names, "ranknum")):
        if container not in _shared_containers() and hasattr(layer, container):
            yield from _parameters_in(layer, container, adapter)


def shared_tensors(adapted: Adapted, adapter: str) -> Iterator[tuple[str, nn.Parameter]]:
    """The parameters that the layers of one adapter use together, each once, by the first place that has it."""
    found: dict[int, tuple[str, nn.Parameter]] = {}
    for path, layer in base_model(adapted).named_modules():
        if isinstance(layer, BaseTunerLayer):
            for container in _shared_containers().intersection(layer.adapter_layer_names):
                for name, tensor in _parameters_in(layer, container, adapter):
                    found.setdefault(id(tensor), (f"{path}.{name}", tensor))
    yield from found.values()


@cache
def _shared_containers() -> frozenset[str]:
    return frozenset(container for method in METHODS.values() for container in method.shared_parameters)


def _parameters_in(layer: BaseTunerLayer, container: str, adapter: str) -> Iterator[tuple[str, nn.Parameter]]:
    entries = getattr(layer, container)
    if adapter not in entries:
        return
    entry = entries[adapter]
    if isinstance(entry, nn.Parameter):
        yield container, entry
        return
    for name, parameter in entry.named_parameters():
        yield _key(container, name), parameter


def _key(container: str, name: str) -> str:
    """PEFT's checkpoints hold DoRA's magnitudes under the name of their container alone."""
    return container if container == "lora_magnitude_vector" else f"{container}.{name}"


def adapter_state(adapted: Adapted, plan: Plan) -> dict[str, dict[str, torch.Tensor]]:
    """Per adapter, the live tensors to save: those of its sites and, with the first, the trained modules.

    The keys are those of `adapter_model.safetensors`. Reading them from the layers, not by names from the model's
    state, keeps apart an adapter and a module that happen to be called the same.
    """
    model = base_model(adapted)
    held_by_tuner = {name: child for name, child in tuner_of(adapted).named_children() if child is not model}
    elsewhere = {id(child) for name, child in held_by_tuner.items() if name not in _REPEATED}
    state: dict[str, dict[str, torch.Tensor]] = {}
    for site in plan.sites:
        tensors = state.setdefault(site.adapter, {})
        path = wrapper_of(model, site)[0] if site.parameter else site.path
        for name, tensor in _layer_state(layer_of(model, site), site.adapter, elsewhere):
            tensors[f"{MODEL_PREFIX}{path}.{name}"] = tensor
    for adapter, tensors in state.items():
        for container, child in held_by_tuner.items():
            for name, tensor in _tuner_state(container, child, adapter):
                tensors[f"{_TUNER_PREFIX}{name}"] = tensor
    for path, wrapper in wrappers(model):
        for adapter in state.keys() & wrapper.modules_to_save.keys():  # not those that PEFT was given beside
            for name, tensor in wrapper.modules_to_save[adapter].state_dict(keep_vars=True).items():
                state[adapter][f"{MODEL_PREFIX}{path}.{name}"] = tensor
    return state


def _layer_state(layer: Any, adapter: str, elsewhere: set[int]) -> Iterator[tuple[str, torch.Tensor]]:
    """What a layer holds of an adapter: parameters, buffers that are saved, and SHiRA's indices."""
    for container, child in layer.named_children():
        # AdaLoRA's number of ranks follows from its configuration.
        if container not in ("base_layer", "ranknum") and id(child) not in elsewhere:
            yield from _saved(container, child, adapter)
    if adapter in (indices := getattr(layer, "shira_indices", {})):
        yield "shira_indices", indices[adapter]


def _saved(container: str, entries: Any, adapter: str) -> Iterator[tuple[str, torch.Tensor]]:
    if not hasattr(entries, "__contains__") or adapter not in entries:
        return
    entry = entries[adapter]
    if isinstance(entry, nn.Module):
        yield from ((_key(container, name), tensor) for name, tensor in entry.state_dict(keep_vars=True).items())
    elif adapter not in entries._non_persistent_buffers_set:
        yield container, entry


def _tuner_state(container: str, entries: Any, adapter: str) -> Iterator[tuple[str, torch.Tensor]]:
    """What PEFT's tuner holds for all layers of an adapter; FRoD has one of each for every kind of layer."""
    if not isinstance(entries, nn.ModuleDict) or adapter in entries:
        yield from _saved(container, entries, adapter)
        return
    for kind, inner in entries.items():
        yield from _saved(f"{container}.{kind}", inner, adapter)


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
        for parameter in site_tensors(model, site).values():
            found[id(parameter)] = parameter
    for adapter in dict.fromkeys(s.adapter for s in plan.sites if METHODS[s.method].shared_parameters):
        found |= {id(parameter): parameter for _, parameter in shared_tensors(adapted, adapter)}
    for _, wrapper in wrappers(model):
        found |= {id(parameter): parameter for parameter in wrapper.modules_to_save.parameters()}
    yield from found.values()


def site_tensors(model: nn.Module, site: Site) -> dict[str, nn.Parameter]:
    """The parameters that a site alone has and that are trained, by their name within its layer."""
    frozen = METHODS[site.method].frozen_parameters(site.settings)
    return {
        name: parameter
        for name, parameter in layer_tensors(layer_of(model, site), site.adapter)
        if name.partition(".")[0] not in frozen
    }
