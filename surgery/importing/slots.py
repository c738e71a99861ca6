"""What a plan has to be given: every tensor of its adapters, by the key of a PEFT checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from surgery.planning.plan import Plan, Site

Shapes: TypeAlias = "Mapping[str, Mapping[str, tuple[int, ...]]]"  # by adapter, by key of its PEFT checkpoint

_MODEL_PREFIX = "base_model.model."  # what PEFT's wrapper puts before the paths of the wrapped model


@dataclass(frozen=True)
class Slot:
    """One tensor to fill: `parameter` of the module at `path`.

    Modules trained in full have no `site`; what the sites of an adapter share has neither a site nor a path.
    """

    adapter: str
    key: str
    path: str = field(compare=False)
    parameter: str = field(compare=False)
    shape: tuple[int, ...] = field(compare=False)
    site: Site | None = field(compare=False)


def slots_of(plan: Plan, shapes: Shapes) -> list[Slot]:
    """A slot for every key of `shapes`: at the site that it lies in, else at its path without the last name."""
    sites = {site.path: site for site in plan.sites}
    return [_slot(adapter, key, shape, sites) for adapter, keys in shapes.items() for key, shape in keys.items()]


def _slot(adapter: str, key: str, shape: tuple[int, ...], sites: Mapping[str, Site]) -> Slot:
    name = key.removeprefix(_MODEL_PREFIX)
    if name == key:
        return Slot(adapter, key, "", key, shape, None)
    path, parameter = name, ""
    while path:
        path, _, last = path.rpartition(".")
        parameter = f"{last}.{parameter}" if parameter else last
        if path in sites:
            return Slot(adapter, key, path, parameter, shape, sites[path])
    path, _, parameter = name.rpartition(".")
    return Slot(adapter, key, path, parameter, shape, None)
