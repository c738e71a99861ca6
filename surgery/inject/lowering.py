"""From a plan to one PEFT configuration per named adapter, and the proof that PEFT will read it as meant."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import peft
from peft import PeftConfig
from peft.tuners.tuners_utils import check_target_module_exists
from peft.utils.other import get_pattern_key
from torch import nn

from surgery.diagnostics import Diagnostic
from surgery.inject.patterns import anchored, anywhere_wrapped, exactly
from surgery.inject.trained import saved_modules, selected_by_suffix
from surgery.methods import METHODS
from surgery.planning.plan import Plan, Site


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
    fields = method.fields(sites[0].settings)
    for setting, pattern in (("r", "rank_pattern"), ("alpha", "alpha_pattern")):
        field = method.setting(setting)
        assert field is not None
        fields[field.field], fields[pattern] = _per_site(sites, setting, mixed)
    if method.name == "lora":
        fields["fan_in_fan_out"] = any(_is_transposed(site) for site in sites)
    pattern = exactly(site.path for site in sites)
    return getattr(peft, method.config)(
        target_modules=anywhere_wrapped(pattern) if mixed else pattern, modules_to_save=saved or None, **fields
    )


def _per_site(sites: tuple[Site, ...], setting: str, mixed: bool) -> tuple[Any, dict[str, Any]]:
    """The commonest value of a setting, and a pattern for the sites of every other value."""
    values = Counter(site.settings[setting] for site in sites)
    [(default, _)] = values.most_common(1)
    patterns = {
        value: exactly(site.path for site in sites if site.settings[setting] == value)
        for value in values
        if value != default
    }
    return default, {anchored(anywhere_wrapped(p) if mixed else p): value for value, p in patterns.items()}


def _is_transposed(site: Site) -> bool:
    return site.kind == "Conv1D"


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
    config = adapter.config
    for site in adapter.sites:
        field = METHODS[site.method].fields(site.settings)
        r = config.rank_pattern.get(get_pattern_key(config.rank_pattern, site.path), config.r)
        default = config.lora_alpha if "lora_alpha" in field else config.alpha
        alpha = config.alpha_pattern.get(get_pattern_key(config.alpha_pattern, site.path), default)
        if (r, alpha) != (site.settings["r"], site.settings["alpha"]):
            yield Diagnostic(
                "E0406",
                f"PEFT would read r = {r}, alpha = {alpha} for `{site.path}`",
                place=site.place,
                helps=("give this module the rank and alpha of the other modules of its target",),
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
