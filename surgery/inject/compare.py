"""Whether an adapted model is what its plan says (E0509)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence, Set
from math import isclose
from typing import Any

from peft.mapping import PEFT_TYPE_TO_TUNER_MAPPING
from peft.tuners.tuners_utils import BaseTunerLayer
from peft.utils import PeftType
from peft.utils.other import ModulesToSaveWrapper
from torch import nn

from surgery.diagnostics import Diagnostic
from surgery.inject.parameters import layers_by_site
from surgery.inject.state import Adapted, base_model, layer_tensors, shared_tensors, wrappers
from surgery.inject.trained import saved_modules
from surgery.inject.tree import named_modules, named_parameters
from surgery.methods import METHODS
from surgery.planning.plan import Plan, Site

_SHOWN = 8


def compare(adapted: Adapted, plan: Plan) -> list[Diagnostic]:
    """All differences between the adapted model and the plan, as one diagnostic; empty when they agree."""
    return _reported(list(_differences(adapted, plan)))


def added_differences(adapted: Adapted, sites: Sequence[Site], trained: Sequence[str]) -> list[Diagnostic]:
    """As `compare`, for one more adapter of an adapted model: that of these sites, which is not active yet."""
    return _reported(list(_of_one_adapter(adapted, sites, trained)))


def _reported(differences: list[str]) -> list[Diagnostic]:
    if not differences:
        return []
    more = len(differences) - _SHOWN
    notes = differences[:_SHOWN] + ([f"and {more} more"] if more > 0 else [])
    return [
        Diagnostic(
            "E0509",
            "the adapted model is not what the plan says",
            notes=tuple(notes),
            helps=(
                (
                    "if the model was changed since the plan was applied, apply it to the base model again; one that"
                    " a `surgery.Runtime` has prepared is saved by `runtime.save`, or after `runtime.unprepare()`"
                ),
                "if it was not, report this with the plan and the version of peft",
            ),
        )
    ]


def _differences(adapted: Adapted, plan: Plan) -> Iterator[str]:
    model = base_model(adapted)
    modules = dict(named_modules(model))
    layers = layers_by_site(model)
    planned = {site.full_path for site in plan.sites}
    yield from (f"`{path}` is adapted and not planned" for path in sorted(layers.keys() - planned))
    yield from (f"`{path}` is planned and not adapted" for path in sorted(planned - layers.keys()))
    wrappers = {path: module for path, module in modules.items() if isinstance(module, ModulesToSaveWrapper)}
    saved = set(saved_modules(model, plan.trained))
    yield from (f"`{path}` is trained in full and not planned" for path in sorted(wrappers.keys() - saved))
    yield from (f"`{path}` is to be trained in full and is not" for path in sorted(saved - wrappers.keys()))
    trained = {id(p) for wrapper in wrappers.values() for p in wrapper.modules_to_save.parameters()}
    for site in plan.sites:
        if site.full_path in layers:
            tensors = dict(layer_tensors(layers[site.full_path], site.adapter))
            yield from (
                f"`{site.full_path}`: {text}" for text in _site_differences(site, layers[site.full_path], tensors)
            )
            frozen = METHODS[site.method].frozen_parameters(site.settings)
            trained |= {id(tensor) for name, tensor in tensors.items() if name.partition(".")[0] not in frozen}
    for adapter in plan.adapters:
        has_shared = METHODS[adapter.method].shared_parameters
        shared = [tensor for _, tensor in shared_tensors(adapted, adapter.name)] if has_shared else []
        trained |= {id(tensor) for tensor in shared}
        if (added := sum(tensor.numel() for tensor in shared)) != adapter.shared:
            yield f"the modules of `{adapter.name}` share {added:,} parameters, planned {adapter.shared:,}"
    yield from _total_differences(adapted, plan, trained)


def _site_differences(site: Site, layer: BaseTunerLayer, tensors: Mapping[str, nn.Parameter]) -> Iterator[str]:
    method = METHODS[site.method]
    if not isinstance(layer, PEFT_TYPE_TO_TUNER_MAPPING[PeftType(method.peft_type)].tuner_layer_cls):
        yield f"carries {type(layer).__module__}.{type(layer).__name__}, not {site.method}"
        return
    name: str = site.adapter
    carried = _carried(site, layer)
    if carried != {name}:
        yield f"carries the adapters {sorted(carried)}, not `{name}`"
        return
    if name not in layer.active_adapters or layer.disable_adapters or layer.merged:
        yield "its adapter is not active"
    yield from _setting_differences(site, layer, tensors)


def _of_one_adapter(adapted: Adapted, sites: Sequence[Site], trained: Sequence[str]) -> Iterator[str]:
    model = base_model(adapted)
    layers = layers_by_site(model)
    planned = {site.path: site for site in sites}
    first = sites[0]
    carrying = {path for path, layer in layers.items() if first.adapter in _carried(first, layer)}
    yield from (f"`{path}` is adapted and not planned" for path in sorted(carrying - planned.keys()))
    yield from (f"`{path}` is planned and not adapted" for path in sorted(planned.keys() - carrying))
    for path in planned.keys() & carrying:
        site, tensors = planned[path], dict(layer_tensors(layers[path], first.adapter))
        yield from (f"`{path}`: {text}" for text in _setting_differences(site, layers[path], tensors))
        if any(tensor.requires_grad for tensor in tensors.values()) or first.adapter in layers[path].active_adapters:
            yield f"`{path}`: its adapter is active"
    wrapped = {path for path, wrapper in wrappers(model) if first.adapter in wrapper.modules_to_save}
    saved = set(saved_modules(model, trained))
    yield from (f"`{path}` is trained in full and not planned" for path in sorted(wrapped - saved))
    yield from (f"`{path}` is to be trained in full and is not" for path in sorted(saved - wrapped))


def _carried(site: Site, layer: BaseTunerLayer) -> set[str]:
    """The adapters that a layer carries. What all layers share holds every one; Uni-LoRA's layers hold nothing else."""
    shared = METHODS[site.method].shared_parameters
    own = [container for container in layer.adapter_layer_names if container not in shared] or ["r"]
    return {key for container in own for key in _held(layer, container)}


def _setting_differences(site: Site, layer: BaseTunerLayer, tensors: Mapping[str, nn.Parameter]) -> Iterator[str]:
    method, name = METHODS[site.method], site.adapter
    for setting in method.settings:
        found = _found(layer, setting.field, name) if setting.name not in method.resized else None
        if found is not None and found != site.settings[setting.name]:
            yield f"{setting.name} is {found}, planned {site.settings[setting.name]}"
    scaling = _held(layer, "scaling") or _held(layer, f"{method.prefix}scaling")  # some methods keep none
    scale = dict(scaling).get(name, 1.0)
    if not isclose(scale, site.scale, rel_tol=1e-12):
        yield f"its scale is {scale}, planned {site.scale}"
    added = sum(tensor.numel() for tensor in tensors.values())
    if added != site.added:
        yield f"adds {added:,} parameters, planned {site.added:,}"


def _held(layer: BaseTunerLayer, container: str) -> Any:
    """What a layer holds under this name by adapter, in a dictionary or a container of PyTorch; empty if nothing."""
    attributes = vars(layer)
    held = attributes.get(container, attributes["_modules"].get(container))
    return held if isinstance(held, (dict, nn.ModuleDict, nn.ParameterDict)) else {}


def _found(layer: BaseTunerLayer, field: str, name: str) -> Any:
    """What a layer keeps for this adapter under the name of a configuration field, or None.

    A parameter is no setting: it starts as the field says and is trained, as DeLoRA's lambda.
    """
    held = _held(layer, field)
    if name not in held or isinstance(held[name], nn.Parameter):
        return None
    value = held[name]
    if isinstance(value, nn.Module):
        return getattr(value, "p", 0.0)  # nn.Dropout, or nn.Identity for none
    return value


def _total_differences(adapted: Adapted, plan: Plan, trained: Set[int]) -> Iterator[str]:
    """What the gradients and the totals have otherwise; `trained` are the ids of the planned parameters."""
    total = 0
    for path, name, parameter in named_parameters(adapted):
        if parameter.requires_grad != (id(parameter) in trained):
            yield f"`{path}.{name}` {'requires' if parameter.requires_grad else 'does not require'} a gradient"
        total += parameter.numel() * parameter.requires_grad
    if total != plan.totals.trainable:
        yield f"{total:,} parameters are trainable, planned {plan.totals.trainable:,}"
    added = sum(site.added for site in plan.sites) + sum(adapter.shared for adapter in plan.adapters)
    if added != plan.totals.added:
        yield f"the sites and adapters of the plan add {added:,} parameters, its totals say {plan.totals.added:,}"
