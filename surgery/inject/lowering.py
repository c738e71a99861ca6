"""From a plan to one PEFT configuration per named adapter, and the proof that PEFT will read it as meant."""

from __future__ import annotations

import copy
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from typing import Any

import peft
from peft import PeftConfig
from peft.tuners.tuners_utils import check_target_module_exists
from peft.utils.other import get_pattern_key
from peft.utils.transformers_weight_conversion import convert_peft_config_for_transformers
from torch import nn

from surgery.diagnostics import Diagnostic, SurgeryError
from surgery.inject.parameters import inexact, target_parameters
from surgery.inject.patterns import all_but, anchored, anywhere_wrapped, exactly
from surgery.inject.trained import saved_modules, selected_by_suffix, unwrappable
from surgery.methods import METHODS
from surgery.methods.setting import NOWHERE
from surgery.planning.plan import Plan, Site

# What PEFT changes in a configuration while it injects: targets that transformers has fused, and what its layers found.
_REWRITTEN = (
    *("target_modules", "exclude_modules", "target_parameters"),
    *("rank_pattern", "alpha_pattern", "fan_in_fan_out"),
)


@dataclass(frozen=True)
class Lowered:
    """A named adapter: its sites and the configuration that makes PEFT adapt exactly those."""

    name: str
    sites: tuple[Site, ...]
    config: PeftConfig

    @contextmanager
    def narrowed(self, sites: Iterable[Site]) -> Iterator[None]:
        """PEFT adapts only these of the sites meanwhile, all parameters among them.

        Afterwards the configuration is the full one again, also where PEFT has rewritten it.
        """
        own = {name: value for name, value in vars(self.config).items() if name in _REWRITTEN}
        self._select([site.path for site in sites if not site.parameter])
        try:
            yield
        finally:
            for name, value in own.items():
                setattr(self.config, name, value)

    def _select(self, paths: list[str]) -> None:
        pattern = _selected(paths, mixed=True)
        self.config.target_modules = pattern if paths else []
        if getattr(self.config, "exclude_modules", None) is not None:
            self.config.exclude_modules = all_but(pattern)


def lower(model: nn.Module, plan: Plan) -> list[Lowered]:
    """The PEFT configuration of every adapter of the plan. The first one also carries the trained modules."""
    mixed = len({METHODS[site.method].peft_type for site in plan.sites}) > 1
    saved = saved_modules(model, plan.trained)
    adapters = []
    for index, name in enumerate(dict.fromkeys(site.adapter for site in plan.sites)):
        sites = tuple(site for site in plan.sites if site.adapter == name)
        adapters.append(lower_adapter(model, name, sites, mixed, saved if index == 0 else []))
    return adapters


def lower_adapter(model: nn.Module, name: str, sites: tuple[Site, ...], mixed: bool, saved: list[str]) -> Lowered:
    """The PEFT configuration of one adapter; `mixed` for a PeftMixedModel, `saved` are the modules trained in full."""
    config = _config(sites, mixed, saved)
    if config.target_modules and _is_rewritten(model, config):
        config.exclude_modules = all_but(config.target_modules)
    return Lowered(name, sites, config)


def _config(sites: tuple[Site, ...], mixed: bool, saved: list[str]) -> PeftConfig:
    method = METHODS[sites[0].method]
    make: type[PeftConfig] = getattr(peft, method.config)
    values = method.fields(sites[0].settings)
    for setting in method.settings:
        if setting.pattern and setting.field:
            values[setting.field], values[setting.pattern] = _per_site(sites, setting.name, mixed)
        elif setting.pattern:
            values[setting.pattern] = _selected([s.path for s in sites if s.settings[setting.name]], mixed)
    known = {field.name for field in fields(make)}
    if saved and "modules_to_save" not in known:
        raise SurgeryError(_cannot_train(sites[0], saved))
    if saved:
        values["modules_to_save"] = saved
    if "fan_in_fan_out" in known:
        values["fan_in_fan_out"] = any(site.kind == "Conv1D" for site in sites)  # transformers' stores (in, out)
    if parameters := target_parameters(sites):
        values["target_parameters"] = parameters
    modules = [site.path for site in sites if not site.parameter]
    return make(target_modules=_selected(modules, mixed) if modules else [], **values)


def _selected(paths: list[str], mixed: bool) -> str:
    pattern = exactly(paths) if paths else NOWHERE
    return anywhere_wrapped(pattern) if mixed else pattern


def _per_site(sites: tuple[Site, ...], name: str, mixed: bool) -> tuple[Any, dict[str, Any]]:
    """The commonest value of a setting, and a pattern for the sites of every other value.

    The commonest among parameters, where there are any: PEFT heeds a pattern for parameters, and warns that it did not.
    """
    common = Counter(site.settings[name] for site in sites if site.parameter)
    values = Counter(site.settings[name] for site in sites)
    [(default, _)] = (common or values).most_common(1)
    paths: dict[Any, list[str]] = {value: [] for value in values if value != default}
    for site in sites:
        if site.settings[name] != default:
            paths[site.settings[name]].append(site.full_path)
    return default, {anchored(_selected(own, mixed)): value for value, own in paths.items()}


def unproven(model: nn.Module, names: Iterable[str], lowered: Iterable[Lowered]) -> Iterator[Diagnostic]:
    """What PEFT would read differently from the plan, by its own matching on the live module tree (E0406).

    `names` are the paths of all modules of the model without adapters.
    """
    names = [name for name in names if name]
    for adapter in lowered:
        try:
            config = _as_injected(model, adapter.config)
        except ValueError as error:
            yield _refused(adapter, str(error))
            continue
        if parameters := _named(config) - _named(adapter.config):
            yield _refused(adapter, f"it would adapt the parameters {', '.join(sorted(parameters))}")
            continue
        if _named(config):
            yield from inexact(model, config, adapter.sites)
        planned = {site.path for site in adapter.sites if not site.parameter}
        matched = {name for name in names if check_target_module_exists(config, name)}
        if matched != planned:
            yield _inexact(f"the adapter `{adapter.name}`", matched - planned, planned - matched)
        saved = set(getattr(config, "modules_to_save", None) or ())
        wrapped = selected_by_suffix(model, saved)
        if wrapped != saved:
            yield _inexact("`modules_to_save`", wrapped - saved, saved - wrapped)
        if containers := unwrappable(model, sorted(saved)):
            yield _not_wrapped(model, containers)
        yield from _wrong_patterns(adapter, config)
        yield from _unusable_name(adapter.name)


def _named(config: PeftConfig) -> set[str]:
    return set(getattr(config, "target_parameters", None) or ())


def _is_rewritten(model: nn.Module, config: PeftConfig) -> bool:
    """Whether PEFT makes a list of last names of the pattern, which would select these names anywhere in the model."""
    try:
        return _as_injected(model, config).target_modules != config.target_modules
    except ValueError:
        return False  # `unproven` says so


def _as_injected(model: nn.Module, config: PeftConfig) -> Any:
    """The configuration as PEFT rewrites it for models whose experts transformers has fused since its version 4.

    Raises ValueError where PEFT does, for targets that it cannot rewrite.
    """
    rewritten = copy.deepcopy(config)
    convert_peft_config_for_transformers(rewritten, model, conversions=None)
    return rewritten


def _refused(adapter: Lowered, why: str) -> Diagnostic:
    return Diagnostic(
        "E0406",
        f"PEFT rewrites the targets of the adapter `{adapter.name}` for this model: {why}",
        place=adapter.sites[0].place,
        helps=("take the modules that are called like the experts of this architecture out of the target",),
    )


def _wrong_patterns(adapter: Lowered, config: PeftConfig) -> Iterator[Diagnostic]:
    method = METHODS[adapter.sites[0].method]
    for setting in method.settings:
        if not setting.pattern:
            continue
        pattern = getattr(config, setting.pattern)
        default = getattr(config, setting.field) if setting.field else None
        for site in adapter.sites:
            found = (
                pattern.get(get_pattern_key(pattern, site.full_path), default)
                if setting.field
                else re.fullmatch(pattern, site.path) is not None
            )
            if found != site.settings[setting.name]:
                yield Diagnostic(
                    "E0406",
                    f"PEFT would read {setting.name} = {found} for `{site.full_path}`,"
                    f" planned {site.settings[setting.name]}",
                    place=site.place,
                    helps=(f"give this module the {setting.name} of the other modules of its target",),
                )


def _cannot_train(site: Site, saved: list[str]) -> Diagnostic:
    return Diagnostic(
        "E0406",
        f"PEFT's {METHODS[site.method].title} cannot train other modules in full, such as `{saved[0]}`",
        place=site.place,
        helps=("let the spec's first target use another method, or train these modules by a target on them",),
    )


def _not_wrapped(model: nn.Module, paths: list[str]) -> Diagnostic:
    listed = ", ".join(f"`{path}` ({type(model.get_submodule(path)).__name__})" for path in paths)
    return Diagnostic(
        "E0406",
        f"PEFT trains modules that are called, not containers of parameters: {listed}",
        helps=("take them out of `train`, or let a module of the model hold these parameters itself",),
    )


def _unusable_name(name: str) -> Iterator[Diagnostic]:
    if not name or "." in name or hasattr(nn.ModuleDict, name) or hasattr(nn.ParameterDict, name):
        yield Diagnostic(
            "E0406",
            f"`{name}` cannot be the name of a PEFT adapter: PyTorch's containers use it themselves",
            helps=("rename the target",),
        )


def _inexact(what: str, more: set[str], less: set[str]) -> Diagnostic:
    notes = [f"would also take `{path}`" for path in sorted(more)[:5]]
    notes += [f"would not take `{path}`" for path in sorted(less)[:5]]
    return Diagnostic(
        "E0406",
        f"PEFT's matching cannot take exactly the modules of {what}",
        notes=tuple(notes),
        helps=("rename the module, or choose modules whose full paths are no endings of other paths",),
    )
