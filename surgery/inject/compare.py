"""Whether an adapted model is what its plan says (E0509)."""

from __future__ import annotations

from collections.abc import Iterator
from math import isclose
from typing import Any

from peft.mapping import PEFT_TYPE_TO_TUNER_MAPPING
from peft.tuners.tuners_utils import BaseTunerLayer
from peft.utils import PeftType
from torch import nn

from surgery.diagnostics import Diagnostic
from surgery.inject.state import Adapted, base_model, layer_tensors, trainable_tensors, wrappers
from surgery.inject.trained import saved_modules
from surgery.methods import METHODS
from surgery.planning.plan import Plan, Site

_SHOWN = 8


def compare(adapted: Adapted, plan: Plan) -> list[Diagnostic]:
    """All differences between the adapted model and the plan, as one diagnostic; empty when they agree."""
    differences = list(_differences(adapted, plan))
    if not differences:
        return []
    more = len(differences) - _SHOWN
    notes = differences[:_SHOWN] + ([f"and {more} more"] if more > 0 else [])
    return [
        Diagnostic(
            "E0509",
            "the adapted model is not what the plan says",
            notes=tuple(notes),
            helps=("report this with the plan and the version of peft: the plan should have been refused before",),
        )
    ]


def _differences(adapted: Adapted, plan: Plan) -> Iterator[str]:
    model = base_model(adapted)
    layers = {path: module for path, module in model.named_modules() if isinstance(module, BaseTunerLayer)}
    planned = {site.path for site in plan.sites}
    yield from (f"`{path}` is adapted and not planned" for path in sorted(layers.keys() - planned))
    yield from (f"`{path}` is planned and not adapted" for path in sorted(planned - layers.keys()))
    for site in plan.sites:
        if site.path in layers:
            yield from (f"`{site.path}`: {text}" for text in _site_differences(site, layers[site.path]))
    wrapped, saved = {path for path, _ in wrappers(model)}, set(saved_modules(model, plan.trained))
    yield from (f"`{path}` is trained in full and not planned" for path in sorted(wrapped - saved))
    yield from (f"`{path}` is to be trained in full and is not" for path in sorted(saved - wrapped))
    yield from _gradient_differences(adapted, plan)


def _site_differences(site: Site, layer: BaseTunerLayer) -> Iterator[str]:
    method = METHODS[site.method]
    if not isinstance(layer, PEFT_TYPE_TO_TUNER_MAPPING[PeftType(method.peft_type)].tuner_layer_cls):
        yield f"carries {type(layer).__module__}.{type(layer).__name__}, not {site.method}"
        return
    name: str = site.adapter
    scaling: dict[str, float] = vars(layer)["scaling"]
    if set(scaling) != {name}:
        yield f"carries the adapters {sorted(scaling)}, not `{name}`"
        return
    if name not in layer.active_adapters or layer.disable_adapters or layer.merged:
        yield "its adapter is not active"
    for setting in method.settings:
        found = _found(layer, setting.field, name)
        if found is not None and found != site.settings[setting.name]:
            yield f"{setting.name} is {found}, planned {site.settings[setting.name]}"
    if not isclose(scaling[name], site.scale, rel_tol=1e-12):
        yield f"its scale is {scaling[name]}, planned {site.scale}"
    added = sum(parameter.numel() for _, parameter in layer_tensors(layer, name))
    if added != site.added:
        yield f"adds {added:,} parameters, planned {site.added:,}"


def _found(layer: BaseTunerLayer, field: str, name: str) -> Any:
    """What a layer keeps for this adapter under the name of a configuration field, or None."""
    held = getattr(layer, field, None)
    if not isinstance(held, (dict, nn.ModuleDict)) or name not in held:
        return None
    value = held[name]
    if isinstance(value, nn.Module):
        return getattr(value, "p", 0.0)  # nn.Dropout, or nn.Identity for none
    return value


def _gradient_differences(adapted: Adapted, plan: Plan) -> Iterator[str]:
    wanted = {id(parameter) for parameter in trainable_tensors(adapted, plan)}
    total = 0
    for name, parameter in adapted.named_parameters():
        if parameter.requires_grad != (id(parameter) in wanted):
            yield f"`{name}` {'requires' if parameter.requires_grad else 'does not require'} a gradient"
        total += parameter.numel() * parameter.requires_grad
    if total != plan.totals.trainable:
        yield f"{total:,} parameters are trainable, planned {plan.totals.trainable:,}"
    added = sum(site.added for site in plan.sites)
    if added != plan.totals.added:
        yield f"the sites of the plan add {added:,} parameters, its totals say {plan.totals.added:,}"
