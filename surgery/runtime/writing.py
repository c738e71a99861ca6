"""Putting an adapter's tensors, ranks and scales into a model, and taking them out.

Everything was checked before, and no gradients are recorded.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

import torch

from surgery.methods import METHODS
from surgery.runtime.adapter import Adapter
from surgery.runtime.table import Table


def write_tensors(table: Table, adapter: Adapter) -> None:
    """Copy the adapter into its slots, cast to their dtype; what lies beyond its rank, and its silent sites, is 0."""
    layout = table.layout(adapter.sites)
    if layout.zeros:
        torch._foreach_zero_(layout.zeros)
    torch._foreach_copy_(layout.parts, layout.of(adapter.tensors))


def read_tensors(table: Table, adapter: Adapter) -> Mapping[str, torch.Tensor]:
    """Copy what the model holds of this adapter, at its own rank, into the adapter's own tensors, or into new ones."""
    layout = table.layout(adapter.sites)
    held = adapter.tensors
    if not held:
        keyed = zip(layout.keys, layout.parts, layout.shapes, strict=True)
        held = {key: part.new_empty(shape) for key, part, shape in keyed}
    torch._foreach_copy_(layout.of(held), layout.parts)
    return held


def write_ranks(table: Table, adapter: Adapter) -> None:
    """Note rank and alpha on PEFT's layers, as they are without padding. Their forward reads neither."""
    for path, applied in adapter.sites.items():
        place = table.places[path]
        state, name = vars(place.layer), place.site.adapter
        for setting, field in _rank_fields(place.site.method) if place.has_rank else ():
            if field in state:
                state[field][name] = applied.settings[setting]


@cache
def _rank_fields(method: str) -> tuple[tuple[str, str], ...]:
    """A method's settings that PEFT's layers keep for themselves, by the names of both."""
    found = ((name, METHODS[method].setting(name)) for name in ("r", "alpha", "rslora"))
    return tuple((name, setting.field) for name, setting in found if setting is not None)


def write_scales(table: Table, scales: Mapping[str, float]) -> None:
    """Set the factor on the update of every site that has one. Where it is a tensor, its value changes in place."""
    values: dict[tuple[torch.device, torch.dtype], tuple[list[torch.Tensor], list[float]]] = {}
    for path, place in table.places.items():
        scaling = place.scaling
        if scaling is None:
            continue
        held = scaling[place.site.adapter]
        if isinstance(held, torch.Tensor):
            tensors, numbers = values.setdefault((held.device, held.dtype), ([], []))
            tensors.append(held)
            numbers.append(scales[path])
        else:
            scaling[place.site.adapter] = scales[path]
    for (device, dtype), (tensors, numbers) in values.items():
        torch._foreach_copy_(tensors, list(torch.tensor(numbers, device=device, dtype=dtype).unbind()))


def write_flags(table: Table, enabled: bool) -> None:
    """PEFT's own switch, which makes compiled code compile again; without what else PEFT does to `requires_grad`."""
    for place in table.places.values():
        vars(place.layer)["_disable_adapters"] = not enabled
    for wrapper in table.wrappers:
        vars(wrapper)["_disable_adapters"] = not enabled
