"""Whether an adapter fits the tensors of a model: a bijection of keys, and the shape that its rank gives each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch

from surgery.planning.swapping import Obstacle, is_ranked
from surgery.runtime.adapter import Adapter
from surgery.runtime.table import Layout, Place, Table

_FLOATS = (torch.float64, torch.float32, torch.float16, torch.bfloat16)


def misfits(table: Table, adapter: Adapter, *, prepared: bool) -> Iterator[Obstacle]:
    """Every way in which the adapter does not fit, by the keys of its tensors. `prepared` models take lower ranks."""
    expected = [slot.key for path in adapter.sites for slot in table.places[path].slots]
    expected += [slot.key for slot in table.others]
    if missing := tuple(key for key in expected if key not in adapter.tensors):
        yield Obstacle("not in the adapter", missing)
    if len(adapter.tensors) + len(missing) > len(expected):
        known = set(expected)
        yield Obstacle("not in the model", tuple(key for key in adapter.tensors if key not in known))
    if of_ranks := list(rank_obstacles(table, adapter, prepared=prepared)):
        yield from of_ranks
    else:
        yield from _of_tensors(table.layout(adapter.sites), adapter.tensors)


def _of_tensors(layout: Layout, tensors: Mapping[str, torch.Tensor]) -> Iterator[Obstacle]:
    others: dict[str, list[str]] = {}
    for key, part, shape in zip(layout.keys, layout.parts, layout.shapes, strict=True):
        tensor = tensors.get(key)
        if key in tensors and not _has_values(tensor):
            others.setdefault("no dense tensor with values", []).append(key)
        elif tensor is not None and tensor.shape != shape:
            others.setdefault(f"of shape {list(tensor.shape)}, where {list(shape)} is needed", []).append(key)
        elif tensor is not None and not _is_castable(tensor.dtype, part.dtype):
            others.setdefault(f"of {tensor.dtype}, which is not cast to {part.dtype}", []).append(key)
    for reason, keys in others.items():
        yield Obstacle(reason, tuple(keys))
    if not others and (damaged := tuple(_not_finite({key: tensors[key] for key in layout.keys if key in tensors}))):
        yield Obstacle("holds numbers that are not finite", damaged)


def _not_finite(tensors: Mapping[str, torch.Tensor]) -> list[str]:
    """The keys of tensors with infinities or NaN, found in one pass over all of them."""
    floats = {key: tensor for key, tensor in tensors.items() if tensor.dtype in _FLOATS and tensor.numel()}
    if not floats:
        return []
    largest = torch.stack([norm.double().cpu() for norm in torch._foreach_norm(list(floats.values()), float("inf"))])
    return [key for key, finite in zip(floats, largest.isfinite().tolist(), strict=True) if not finite]


def idle(table: Table) -> Iterator[Obstacle]:
    """Where PEFT does not call the adapter, so that swapping it has no effect."""
    layers = {path: place.layer for path, place in table.places.items()}
    if merged := tuple(path for path, layer in layers.items() if layer.merged_adapters):
        yield Obstacle("merged into the base weights: call `unmerge_adapter()`", merged)
    inactive = tuple(p for p, place in table.places.items() if place.site.adapter not in place.layer.active_adapters)
    if inactive:
        yield Obstacle("not PEFT's active adapter: call `set_adapter`", inactive)
    if accompanied := tuple(path for path, place in table.places.items() if _is_accompanied(place)):
        yield Obstacle("PEFT's active adapter together with another one: call `set_adapter`", accompanied)


def switched_off(table: Table) -> Iterator[Obstacle]:
    """Where PEFT's own switch is off."""
    if off := tuple(path for path, place in table.places.items() if place.layer.disable_adapters):
        yield Obstacle("switched off in PEFT: call `enable()`", off)


def _is_accompanied(place: Place) -> bool:
    active = set(place.layer.active_adapters) - {place.site.adapter}
    return bool(active) and not active.isdisjoint(place.layer._get_available_adapters())


def other_than_held(table: Table, adapter: Adapter, max_rank: int | None) -> Iterator[Obstacle]:
    """Where the model's tensors are not of the rank that the runtime gave them."""
    for path, place in table.places.items():
        wanted = max_rank or (adapter.sites[path].rank if path in adapter.sites else place.rank)
        if place.rank != wanted and place.has_rank:
            yield Obstacle(f"an adapter of rank {place.rank}, expected {wanted}", (path,))


def _is_castable(found: torch.dtype, live: torch.dtype) -> bool:
    return found == live or (found.is_floating_point and live.is_floating_point)


def _has_values(tensor: object) -> bool:
    return isinstance(tensor, torch.Tensor) and tensor.layout == torch.strided and not tensor.is_meta


def rank_obstacles(table: Table, adapter: Adapter, *, prepared: bool) -> Iterator[Obstacle]:
    """Where the adapter's rank, or that it leaves a module alone, does not fit the model."""
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
