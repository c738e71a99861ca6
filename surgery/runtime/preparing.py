"""Making a model ready for swaps that compile nothing: ranks padded with zeros, scales as tensors; and undoing it."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from surgery.inject.state import Adapted
from surgery.planning.plan import Plan
from surgery.planning.swapping import Obstacle, rank_of
from surgery.runtime.adapter import Adapter
from surgery.runtime.table import Place, Table


def live_obstacles(table: Table, max_rank: int) -> Iterator[Obstacle]:
    """What only the live model tells: groups that do not divide the rank, gradients of another shape."""
    grouped = tuple(path for path, place in table.places.items() if max_rank % place.groups)
    if grouped:
        yield Obstacle(f"a convolution whose groups do not divide the rank {max_rank}", grouped)
    held = tuple(
        path for path, place in table.places.items() if any(slot.tensor.grad is not None for slot in place.slots)
    )
    if held:
        yield Obstacle("holds a gradient: prepare before the optimiser is made, or call `zero_grad()`", held)


def remade(model: Adapted, plan: Plan, table: Table, adapter: Adapter, max_rank: int | None) -> Table:
    """Give the model room for `max_rank`, its scales as tensors; for None the adapter's own rank, scales as numbers.

    Returns the model's table from here on. Where that fails or is interrupted, the model is as before.
    """
    tensors = [(slot.tensor, slot.tensor.data) for slot in table.slots.values()]
    scalings = [(scaling, dict(scaling)) for place in table.places.values() if (scaling := place.scaling) is not None]
    try:
        _resize(table, adapter, max_rank)
        made = Table(model, plan)
        if max_rank is None:
            _scales_to_numbers(made)
        else:
            scales_to_tensors(made)
    except BaseException:
        for tensor, data in tensors:
            tensor.data = data
        for scaling, before in scalings:
            scaling.update(before)
        raise
    return made


def _resize(table: Table, adapter: Adapter, max_rank: int | None) -> None:
    """Give the slots room for `max_rank`, or the adapter's own rank for None. The adapter in them stays as it is.

    The parameters remain the same objects: only their storage is new. All of it is made before any is put in.
    """
    made: list[tuple[torch.Tensor, torch.Tensor]] = []
    for path, place in table.places.items():
        own = adapter.sites[path].rank if path in adapter.sites else rank_of(place.site)
        rank = own if max_rank is None else max_rank
        for slot in place.slots:
            if slot.axes and rank != place.rank:
                new = slot.tensor.detach().new_zeros(slot.shape(rank))
                slot.part_of(new, own).copy_(slot.part(own))
                made.append((slot.tensor, new))
    for tensor, new in made:
        tensor.data = new


def scales_to_tensors(table: Table) -> None:
    """Scales as tensors beside the parameters: Python numbers would be constants of the compiled code."""
    for place in table.places.values():
        scaling = place.scaling
        assert scaling is not None, f"{place.site.path}: no scale"
        value = scaling[place.site.adapter]
        like = place.slots[0].tensor
        if not isinstance(value, torch.Tensor) or value.device != like.device:
            scaling[place.site.adapter] = torch.tensor(float(value), dtype=_scale_dtype(place), device=like.device)
    table.watch_scales()


def _scale_dtype(place: Place) -> torch.dtype:
    """Single precision at least: a scale in half precision would be another number."""
    dtype = place.slots[0].tensor.dtype
    return dtype if dtype == torch.float64 else torch.float32


def _scales_to_numbers(table: Table) -> None:
    for place in table.places.values():
        if (scaling := place.scaling) is not None:
            scaling[place.site.adapter] = float(scaling[place.site.adapter])
