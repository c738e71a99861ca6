"""Carry out a plan on a live model: exactly, or not at all."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from peft import get_peft_model
from torch import nn

from surgery.collector import paused_collector
from surgery.diagnostics import Diagnostics
from surgery.inject.compare import compare
from surgery.inject.devices import imitating, on_meta
from surgery.inject.fit import misfits, refusals, unknown_methods
from surgery.inject.lowering import Lowered, lower, unproven
from surgery.inject.prototypes import prototypes
from surgery.inject.quirks import handled_warnings, inherit_training, renew_magnitudes
from surgery.inject.snapshot import atomically
from surgery.inject.stamping import stamp
from surgery.inject.state import Adapted, layer_at, layer_of, trainable_tensors, tuner_of, wrappers
from surgery.inject.tree import named_modules, named_parameters
from surgery.methods import METHODS
from surgery.planning.plan import Plan, Site


def apply(model: nn.Module, plan: Plan) -> Adapted:
    """Inject the plan's adapters into `model` and return it wrapped: as PeftMixedModel if methods mix, else PeftModel.

    All adapters are active together, the planned parameters and no others require gradients, and training
    flags are as before. Raises SurgeryError and leaves the model as it was: E0511 for a plan with errors, E0506
    for another model, E0406 for what PEFT cannot do exactly, E0509 when PEFT fails or does something else. A plan
    that asks for nothing, as one whose targets are all switched off, changes nothing: `model` itself comes back.
    """
    if plan.applyable and not plan.sites and not plan.trained:
        return model  # type: ignore[return-value]
    with paused_collector():
        lowered = _checked(model, plan)
    written = [model.get_submodule(s.path) for s in plan.sites if METHODS[s.method].writes_weights(s.settings)]
    return atomically(model, lambda: _carried_out(model, plan, lowered), written)


def _checked(model: nn.Module, plan: Plan) -> list[Lowered]:
    found = Diagnostics([*refusals(plan), *unknown_methods(plan)])
    found.raise_errors()
    found.extend(misfits(model, plan))
    found.raise_errors()
    lowered = lower(model, plan)
    found.extend(unproven(model, (path for path, _ in named_modules(model)), lowered))
    found.raise_errors()
    return lowered


def _carried_out(model: nn.Module, plan: Plan, lowered: list[Lowered]) -> Adapted:
    modules = dict(named_modules(model))
    groups = {adapter.name: prototypes(adapter.sites, modules) for adapter in lowered}
    known = set(modules.values())
    firsts = [group.site for adapter in lowered for group in groups[adapter.name]]
    bases = [modules[site.path] for site in firsts]
    with imitating(bases):
        with on_meta(bases):
            adapted = _inject(model, lowered, {name: [group.site for group in groups[name]] for name in groups})
        adapted.training = tuner_of(adapted).training = model.training
        for wrapper, wrapped in _wrapping(model, firsts):
            inherit_training(wrapper, wrapped, known)
        _set_trainable(adapted, plan.model_copy(update={"sites": firsts}))
        for adapter in lowered:
            for group in groups[adapter.name]:
                stamp(model, modules, group, adapter.config)
    order = {path: at for at, path in enumerate(modules)}
    tuner_of(adapted).targeted_module_names[:] = [
        path
        for adapter in lowered
        for path in sorted((s.path for s in adapter.sites if not s.parameter), key=order.__getitem__)
    ]
    Diagnostics(compare(adapted, plan)).raise_errors()
    return adapted


def _inject(model: nn.Module, lowered: list[Lowered], sites: dict[str, list[Site]]) -> Adapted:
    """What PEFT makes of the adapters, each at these sites only.

    No copies are made before PEFT is through with all adapters, since the time that it takes for one grows with
    the number of layers that carry others.
    """
    first, *others = lowered
    mixed = len({adapter.config.peft_type for adapter in lowered}) > 1
    with handled_warnings():
        with first.narrowed(sites[first.name]):
            adapted = get_peft_model(model, first.config, adapter_name=first.name, mixed=mixed)
        tuner = tuner_of(adapted)
        for adapter in others:
            # PeftMixedModel.add_adapter would match against paths with its own prefix; this is what PeftModel's does.
            tuner.peft_config[adapter.name] = adapter.config
            with adapter.narrowed(sites[adapter.name]):
                tuner.inject_adapter(tuner.model, adapter.name)
    for adapter in lowered:
        tuner._cast_adapter_dtype(adapter.name)
        for site in sites[adapter.name]:
            renew_magnitudes(layer_of(model, site), adapter.name, adapter.config)
    if others:
        tuner.set_adapter([adapter.name for adapter in lowered])
    return adapted


def _wrapping(model: nn.Module, sites: Iterable[Site]) -> Iterator[tuple[Any, nn.Module]]:
    """What PEFT has put around modules, each with the module that it is around."""
    for layer in (layer_at(model, site.path) for site in sites):
        yield layer, layer.get_base_layer()
    for _, wrapper in wrappers(model):
        yield wrapper, wrapper.original_module


def _set_trainable(adapted: Adapted, plan: Plan) -> None:
    """PEFT decides by names what stays trainable; the plan decides by modules."""
    trainable = {id(tensor) for tensor in trainable_tensors(adapted, plan)}
    for _, _, parameter in named_parameters(adapted):
        if parameter.requires_grad != (id(parameter) in trainable):
            parameter.requires_grad_(not parameter.requires_grad)
