"""From a plan to one PEFT configuration per named adapter, and the proof that PEFT will read it as meant."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields
from typing import Any

import peft
from peft import PeftConfig
from peft.tuners.tuners_utils import check_target_module_exists
from peft.utils.other import get_pattern_key
from torch import nn

from surgery.diagnostics import Diagnostic
from surgery.inject.patterns import anchored, anywhere_wrapped, exactly
from surgery.inject.trained import saved_modules, selected_by_suffix
from surgery.methods import METHODS, Method
from surgery.planning.plan import Plan, Site

# The settings that PEFT lets vary within one adapter, and the field that says where they do.
_PATTERNS = {"r": "rank_pattern", "alpha": "alpha_pattern"}


@dataclass(frozen=True)
class Lowered:
    """A named adapter: its sites and the configuration that makes PEFT adapt exactly those."""

    name: str
    sites: tuple[Site, ...]
    config: PeftConfig


def lower(model: nn.Module, plan: Plan) -> list[Lowered]:
    """The PEFT configuration of every adapter of the plan. The first one also carries the trained modules."""
    mixed = len({METHODS[site.method].peft_type for site in plan.sites}) > 1
    saved = saved_modules(model, plan.trained)
    adapters = []
    for index, name in enumerate(dict.fromkeys(site.adapter for site in plan.sites)):
        sites = tuple(site for site in plan.sites if site.adapter == name)
        config = _config(sites, mixed, saved if index == 0 else [])
        adapters.append(Lowered(name, sites, config))
    return adapters


def _config(sites: tuple[Site, ...], mixed: bool, saved: list[str]) -> PeftConfig:
    method = METHODS[sites[0].method]
    make: type[PeftConfig] = getattr(peft, method.config)
    values = method.fields(sites[0].settings)
    for name, pattern in _PATTERNS.items():
        values[_field(method, name)], values[pattern] = _per_site(sites, name, mixed)
    if "fan_in_fan_out" in {field.name for field in fields(make)}:
        values["fan_in_fan_out"] = any(site.kind == "Conv1D" for site in sites)  # transformers' stores (in, out)
    pattern = exactly(site.path for site in sites)
    target = anywhere_wrapped(pattern) if mixed else pattern
    return make(target_modules=target, modules_to_save=saved or None, **values)


def _field(method: Method, name: str) -> str:
    setting = method.setting(name)
    assert setting is not None, f"{method.name} has no {name}"
    return setting.field


def _per_site(sites: tuple[Site, ...], name: str, mixed: bool) -> tuple[Any, dict[str, Any]]:
    """The commonest value of a setting, and a pattern for the sites of every other value."""
    values = Counter(site.settings[name] for site in sites)
    [(default, _)] = values.most_common(1)
    patterns = {
        value: exactly(site.path for site in sites if site.settings[name] == value)
        for value in values
        if value != default
    }
    return default, {anchored(anywhere_wrapped(p) if mixed else p): value for value, p in patterns.items()}


def unproven(model: nn.Module, lowered: Iterable[Lowered]) -> Iterator[Diagnostic]:
    """What PEFT would read differently from the plan, by its own matching on the live module tree (E0406)."""
    names = [name for name, _ in model.named_modules() if name]
    for adapter in lowered:
        planned = {site.path for site in adapter.sites}
        matched = {name for name in names if check_target_module_exists(adapter.config, name)}
        if matched != planned:
            yield _inexact(f"the adapter `{adapter.name}`", matched - planned, planned - matched)
        saved = set(adapter.config.modules_to_save or ())
        wrapped = selected_by_suffix(model, saved)
        if wrapped != saved:
            yield _inexact("`modules_to_save`", wrapped - saved, saved - wrapped)
        yield from _wrong_patterns(adapter)
        yield from _unusable_name(adapter.name)


def _wrong_patterns(adapter: Lowered) -> Iterator[Diagnostic]:
    for site in adapter.sites:
        for name, attribute in _PATTERNS.items():
            pattern = getattr(adapter.config, attribute)
            default = getattr(adapter.config, _field(METHODS[site.method], name))
            found = pattern.get(get_pattern_key(pattern, site.path), default)
            if found != site.settings[name]:
                yield Diagnostic(
                    "E0406",
                    f"PEFT would read {name} = {found} for `{site.path}`, planned {site.settings[name]}",
                    place=site.place,
                    helps=(f"give this module the {name} of the other modules of its target",),
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
