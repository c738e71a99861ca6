"""Weighted sums of LoRA adapters, exact up to rounding: their ranks side by side, the weights and scales in B."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import torch

from surgery.planning.swapping import Obstacle, is_ranked
from surgery.runtime.adapter import Adapter, Applied
from surgery.runtime.table import Place, Table

Term = tuple[Adapter, float]


def combination_obstacles(table: Table, terms: Sequence[Term], max_rank: int | None) -> Iterator[Obstacle]:
    """Why these adapters have no exact sum in this model."""
    if not terms:
        yield Obstacle("there is nothing to sum: give at least one adapter and its weight")
    unlike = tuple(p.site.path for p in table.places.values() if p.site.method != "lora" or not is_ranked(p.site))
    if unlike:
        yield Obstacle("only sums of plain LoRA are LoRA again", unlike)
    if table.others:
        yield Obstacle("the plan trains modules in full, which have no sum")
    for path, rank in _ranks(terms).items():
        if rank > table.places[path].rank or (max_rank is None and rank != table.places[path].rank):
            yield Obstacle(f"their ranks add up to {rank}: `prepare` the model for it", (path,))
            return


def combined(table: Table, terms: Sequence[Term]) -> Adapter:
    """The sum of each adapter's update times its number, as one adapter of scale 1 (alpha = rank)."""
    sites: dict[str, Applied] = {}
    tensors: dict[str, torch.Tensor] = {}
    for path, rank in _ranks(terms).items():
        place = table.places[path]
        settings = {**place.site.settings, "r": rank, "alpha": rank, "rslora": False}
        sites[path] = Applied(settings, 1.0, rank)
        present = [(adapter, weight * adapter.sites[path].scale) for adapter, weight in terms if path in adapter.sites]
        tensors |= _concatenated(place, present)
    return Adapter(sites, tensors)


def overflows(adapter: Adapter) -> Iterator[Obstacle]:
    """Where a sum is no finite number."""
    if keys := tuple(key for key, tensor in adapter.tensors.items() if not tensor.isfinite().all()):
        yield Obstacle("not finite in the model's type: give smaller weights", keys)


def _ranks(terms: Sequence[Term]) -> dict[str, int]:
    ranks: dict[str, int] = {}
    for adapter, _ in terms:
        for path, applied in adapter.sites.items():
            ranks[path] = ranks.get(path, 0) + applied.rank
    return ranks


def _concatenated(place: Place, terms: Sequence[Term]) -> Mapping[str, torch.Tensor]:
    joined: dict[str, torch.Tensor] = {}
    for slot in place.slots:
        own = [(adapter.tensors[slot.key], weight) for adapter, weight in terms]
        if slot.axes == (0,):
            joined[slot.key] = _side_by_side([tensor for tensor, _ in own], place.groups)
            continue
        # B and its bias: scaled in single precision or better, and rounded once.
        scaled = [tensor.to(_wide(tensor)) * weight for tensor, weight in own]
        whole = torch.cat(scaled, dim=1) if slot.axes else torch.stack(scaled).sum(0)
        joined[slot.key] = whole.to(own[0][0].dtype)
    return joined


def _side_by_side(tensors: list[torch.Tensor], groups: int) -> torch.Tensor:
    """The A of all: on a convolution with groups, each group's ranks stay together."""
    return torch.cat([tensor.unflatten(0, (groups, -1)) for tensor in tensors], dim=1).flatten(0, 1)


def _wide(tensor: torch.Tensor) -> torch.dtype:
    return tensor.dtype if tensor.dtype == torch.float64 else torch.float32
