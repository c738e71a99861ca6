"""Whether an adapter fits the tensors of a model: a bijection of keys, and the shape that its rank gives each."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import nn

from surgery.planning.swapping import Obstacle, is_ranked
from surgery.runtime.adapter import Adapter
from surgery.runtime.table import Slot, Table


def misfits(table: Table, adapter: Adapter, *, prepared: bool) -> Iterator[Obstacle]:
    """Every way in which the adapter does not fit, by the keys of its tensors. `prepared` models take lower ranks."""
    expected = dict(_expected(table, adapter))
    tensors = adapter.tensors
    if missing := tuple(key for key in expected if key not in tensors):
        yield Obstacle("not in the adapter", missing)
    if unknown := tuple(key for key in tensors if key not in expected):
        yield Obstacle("not in the model", unknown)
    for key, (slot, rank) in expected.items():
        if key in tensors and tuple(tensors[key].shape) != slot.shape(rank):
            shape, wanted = list(tensors[key].shape), list(slot.shape(rank))
            yield Obstacle(f"of shape {shape}, where rank {rank} has {wanted}", (key,))
    if wrong := tuple(key for key in expected if key in tensors and not _is_castable(tensors[key], expected[key][0])):
        yield Obstacle("of a type that is not cast to the model's", wrong)
    yield from _of_places(table, adapter, prepared)


def other_than_planned(table: Table) -> Iterator[Obstacle]:
    """Where the model's own adapter is not of the plan's size."""
    for path, place in table.places.items():
        found = sum(slot.tensor.numel() for slot in place.slots if isinstance(slot.tensor, nn.Parameter))
        if found != place.site.added:
            yield Obstacle(f"an adapter of {found:,} parameters, planned {place.site.added:,}", (path,))


def other_than_held(table: Table, adapter: Adapter, max_rank: int | None) -> Iterator[Obstacle]:
    """Where the model's tensors are not of the rank that the runtime gave them."""
    for path, place in table.places.items():
        wanted = max_rank or (adapter.sites[path].rank if path in adapter.sites else place.rank)
        if place.rank != wanted and place.has_rank:
            yield Obstacle(
                f"of rank {place.rank}, expected {wanted}: something else has put another adapter here", (path,)
            )


def _expected(table: Table, adapter: Adapter) -> Iterator[tuple[str, tuple[Slot, int]]]:
    for path, applied in adapter.sites.items():
        for slot in table.places[path].slots:
            yield slot.key, (slot, applied.rank)
    for slot in table.others:
        yield slot.key, (slot, 1)


def _is_castable(tensor: torch.Tensor, slot: Slot) -> bool:
    both = tensor.is_floating_point() and slot.tensor.is_floating_point()
    return both or tensor.dtype == slot.tensor.dtype


def _of_places(table: Table, adapter: Adapter, prepared: bool) -> Iterator[Obstacle]:
    others: dict[str, list[str]] = {}
    for path, applied in adapter.sites.items():
        place = table.places[path]
        if not place.has_rank or applied.rank == place.rank:
            continue
        elif applied.rank > place.rank:
            reason = f"rank {applied.rank}, above the model's {place.rank}: `prepare` it for {applied.rank}"
        elif not prepared:
            reason = f"rank {applied.rank}, in the model {place.rank}: `prepare` it for {place.rank}"
        elif applied.rank % place.groups:
            reason = f"rank {applied.rank}, which its {place.groups} groups do not divide"
        else:
            continue
        others.setdefault(reason, []).append(path)
    for path, place in table.places.items():
        if path not in adapter.sites and not is_ranked(place.site):
            others.setdefault("not adapted by it, and zeros do not switch it off", []).append(path)
    for reason, paths in others.items():
        yield Obstacle(reason, tuple(paths))
