"""One further adapter for a model that carries adapters already, in a time that is linear in its modules.

PEFT's own `add_adapter` compares each module's path with that of every adapted layer.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from peft import PeftConfig, PeftMixedModel
from peft.mapping import PEFT_TYPE_TO_TUNER_MAPPING
from peft.tuners.tuners_utils import BaseTuner, BaseTunerLayer, cast_adapter_dtype
from peft.utils import PeftType
from peft.utils.other import set_additional_trainable_modules
from torch import nn

from surgery.collector import paused_collector
from surgery.diagnostics import Diagnostic, Diagnostics
from surgery.inject.compare import added_differences
from surgery.inject.devices import imitating, on_meta
from surgery.inject.fit import offloaded, other_modules
from surgery.inject.lowering import Lowered, lower_adapter, unproven
from surgery.inject.prototypes import COPIED, Prototype, prototypes
from surgery.inject.quirks import handled_warnings, inherit_training, renew_magnitudes
from surgery.inject.snapshot import atomically
from surgery.inject.stamping import stamp, stamp_entries
from surgery.inject.state import Adapted, base_model, layer_at, tuner_of, wrappers
from surgery.inject.trained import saved_modules
from surgery.inject.tree import named_modules, named_parameters, original_modules
from surgery.methods import METHODS
from surgery.planning.plan import Site


def add_adapter(model: Adapted, sites: Sequence[Site], name: str, trained: Sequence[str] = ()) -> None:
    """Give an adapted model one more adapter, called `name`, at these sites of a plan for the same base model.

    The sites are those of one adapter of that plan: of one method, and alike in all settings that PEFT does not let
    vary within an adapter. Modules without an adapter get one, `trained` are trained in full. As after PEFT's
    own `add_adapter`, the new adapter is not active and nothing of it requires gradients; all else is as before.
    Raises SurgeryError and leaves the model as it was: E0506 where the base model is another one, E0406 for what
    PEFT cannot do exactly, E0509 when PEFT fails or does something else.
    """
    own = tuple(site.model_copy(update={"adapter": name}) for site in sites)
    with paused_collector():
        lowered = _checked(model, own, name, trained)
    written = [
        layer.get_base_layer() if isinstance(layer, BaseTunerLayer) else layer
        for layer in (base_model(model).get_submodule(site.path) for site in own)
        if METHODS[own[0].method].writes_weights(own[0].settings)
    ]
    atomically(model, lambda: _carried_out(model, lowered, trained), written)


def _checked(model: Adapted, sites: tuple[Site, ...], name: str, trained: Sequence[str]) -> Lowered:
    found = Diagnostics(_refusals(model, sites, name))
    found.raise_errors()
    base = base_model(model)
    modules = dict(original_modules(base))
    found.extend(other_modules(modules, sites, trained))
    found.extend(offloaded(base, [*(site.path for site in sites), *trained]))
    found.extend(_taken(base, sites))
    found.raise_errors()
    mixed = isinstance(model, PeftMixedModel)
    lowered = lower_adapter(base, name, sites, mixed, saved_modules(base, trained))
    found.extend(unproven(base, modules, [lowered]))
    found.raise_errors()
    return lowered


def _refusals(model: Adapted, sites: tuple[Site, ...], name: str) -> Iterator[Diagnostic]:
    if not sites:
        yield _refused("an adapter without sites adds nothing", "give the sites of an adapter of the plan")
        return
    method = METHODS[sites[0].method]
    if name in model.peft_config:
        yield _refused(f"the model has an adapter `{name}` already", "give another name, or delete the adapter first")
    if any(site.parameter for site in sites):
        yield _refused(
            "PEFT adds no further adapter to single parameters exactly", "apply a plan with all adapters to a new model"
        )
    alike = {(site.method, repr(METHODS[site.method].per_adapter(site.settings))) for site in sites}
    if len(alike) > 1:
        yield _refused("the sites need several configurations of PEFT", "add an adapter for each of them")
    types = {config.peft_type for config in model.peft_config.values()}
    if not (method.mixes if isinstance(model, PeftMixedModel) else types == {method.peft_type}):
        held = ", ".join(sorted(PeftType(kind).value for kind in types))
        yield _refused(f"PEFT cannot add {method.name} to a model with {held}", "apply a plan with both to a new model")
    elif not method.several and method.peft_type in types:
        yield _refused(f"PEFT trains one {method.name} adapter in a model", "replace the adapter that the model has")


def _taken(model: nn.Module, sites: tuple[Site, ...]) -> Iterator[Diagnostic]:
    """Sites whose module carries an adapter of another method, or that PEFT would treat as the first one there."""
    method = METHODS[sites[0].method]
    fixed = [setting for setting in method.settings if setting.pattern and not setting.field]
    for site in sites:
        layer: Any = model.get_submodule(site.path)
        if not isinstance(layer, BaseTunerLayer):
            continue
        if not isinstance(layer, PEFT_TYPE_TO_TUNER_MAPPING[PeftType(method.peft_type)].tuner_layer_cls):
            yield _refused(f"`{site.path}` carries an adapter of another method", "adapt other modules")
        elif any(getattr(layer, f"is_{s.name}", None) != site.settings[s.name] for s in fixed):
            names = ", ".join(setting.name for setting in fixed)
            yield _refused(f"`{site.path}` keeps the {names} of its first adapter", "give it the same value")


def _refused(message: str, way_out: str) -> Diagnostic:
    return Diagnostic("E0406", message, helps=(way_out,))


def _carried_out(model: Adapted, lowered: Lowered, trained: Sequence[str]) -> None:
    tuner, base = tuner_of(model), base_model(model)
    known = {module for _, module in named_modules(base)}
    flags = {id(p): p.requires_grad for _, _, p in named_parameters(base)}
    modules = dict(original_modules(base))
    bases = [modules[site.path] for site in lowered.sites]
    tuner.peft_config[lowered.name] = lowered.config
    with imitating(bases), handled_warnings():
        if lowered.sites[0].method in COPIED:
            tuner._check_new_adapter_config(lowered.config)
            _insert(tuner, base, modules, lowered)
            config = BaseTuner.get_model_config(base)
            set_additional_trainable_modules(base, lowered.config, config, lowered.name, activate_adapter=False)
        else:
            with on_meta(bases), lowered.narrowed(lowered.sites):
                tuner.inject_adapter(base, lowered.name)
            tuner._cast_adapter_dtype(lowered.name)
    for path in (site.path for site in lowered.sites):
        inherit_training(base.get_submodule(path), modules[path], known)
    for _, wrapper in wrappers(base):
        inherit_training(wrapper, wrapper.original_module, known)
    for _, _, parameter in named_parameters(base):
        parameter.requires_grad_(flags.get(id(parameter), False))
    Diagnostics(added_differences(model, lowered.sites, trained)).raise_errors()


def _insert(tuner: BaseTuner, base: nn.Module, modules: Mapping[str, nn.Module], lowered: Lowered) -> None:
    """PEFT's layers take the adapter: one of each kind by PEFT's own doing, the others by copying what it did there."""
    layers = {path for path, module in named_modules(base) if isinstance(module, BaseTunerLayer)}
    carrying = [site for site in lowered.sites if site.path in layers]
    bare = [site for site in lowered.sites if site.path not in layers]
    for group in prototypes(carrying, modules):
        _by_peft(tuner, base, modules, group, lowered.config)
        stamp_entries(base, modules, group, lowered.config)
    for group in prototypes(bare, modules):
        _by_peft(tuner, base, modules, group, lowered.config)
        stamp(base, modules, group, lowered.config)
    order = {path: at for at, path in enumerate(modules)}
    known = set(tuner.targeted_module_names)
    tuner.targeted_module_names += sorted((s.path for s in bare if s.path not in known), key=order.__getitem__)


def _by_peft(
    tuner: BaseTuner, base: nn.Module, modules: Mapping[str, nn.Module], group: Prototype, config: PeftConfig
) -> None:
    path, name = group.site.path, group.site.adapter
    parent, _, attribute = path.rpartition(".")
    with on_meta([modules[path]]):
        tuner._create_and_replace(
            config, name, base.get_submodule(path), attribute, base.get_submodule(parent), current_key=path
        )
    layer: Any = layer_at(base, path)
    layer._active_adapter = tuner.active_adapters
    cast_adapter_dtype(layer, name)
    renew_magnitudes(layer, name, config)
