"""Putting an adapter's tensors, ranks and scales into a model, and taking them out. Everything was checked before."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from surgery.methods import METHODS
from surgery.planning.swapping import is_ranked
from surgery.runtime.adapter import Adapter
from surgery.runtime.table import Slot, Table


def write_tensors(table: Table, adapter: Adapter) -> None:
    """Copy the adapter into its slots, cast to their dtype; what lies beyond its rank, and its silent sites, is 0."""
    sources: list[torch.Tensor] = []
    targets: list[torch.Tensor] = []
    zeros: list[torch.Tensor] = []
    for path, place in table.places.items():
        applied = adapter.sites.get(path)
        if applied is None or applied.rank != place.rank:
            zeros += [slot.tensor for slot in place.slots if slot.axes or applied is None]
        if applied is not None:
            targets += [slot.part(applied.rank) for slot in place.slots]
            sources += [_like(adapter.tensors[slot.key], slot, applied.rank) for slot in place.slots]
    targets += [slot.tensor.detach() for slot in table.others]
    sources += [adapter.tensors[slot.key] for slot in table.others]
    with torch.no_grad():
        if zeros:
            torch._foreach_zero_(zeros)
        torch._foreach_copy_(targets, sources)


def _like(source: torch.Tensor, slot: Slot, rank: int) -> torch.Tensor:
    return source.view(slot.part(rank).shape) if slot.groups > 1 else source


def read_tensors(table: Table, adapter: Adapter) -> dict[str, torch.Tensor]:
    """Copy what the model holds of this adapter, at its own rank, into the adapter's own tensors, or into new ones."""
    live: dict[str, torch.Tensor] = {}
    held = dict(adapter.tensors)
    for path, applied in adapter.sites.items():
        for slot in table.places[path].slots:
            live[slot.key] = slot.part(applied.rank)
            if slot.key not in held:
                held[slot.key] = slot.tensor.detach().new_empty(slot.shape(applied.rank))
    for slot in table.others:
        live[slot.key] = slot.tensor.detach()
        held.setdefault(slot.key, torch.empty_like(slot.tensor.detach()))
    with torch.no_grad():
        torch._foreach_copy_([held[key].view(part.shape) for key, part in live.items()], list(live.values()))
    return held


def write_ranks(table: Table, adapter: Adapter) -> None:
    """Note rank and alpha on PEFT's layers, as they are without padding. Their forward reads neither."""
    for path, applied in adapter.sites.items():
        place = table.places[path]
        if is_ranked(place.site):
            method, state = METHODS[place.site.method], vars(place.layer)
            for name in ("r", "alpha", "rslora"):
                setting = method.setting(name)
                if setting is not None and setting.field in state:
                    state[setting.field][place.site.adapter] = applied.settings[name]


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
