"""The live tensors of a plan's adapters in a model, found once and checked before every use."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import nn

from surgery.diagnostics import Diagnostic, SurgeryError
from surgery.inject.patterns import MODEL_PREFIX
from surgery.inject.state import Adapted, adapter_state, base_model, wrappers
from surgery.planning.plan import Plan, Site
from surgery.planning.swapping import is_ranked, rank_of
from surgery.runtime.adapter import Applied
from surgery.runtime.ranks import part_at, rank_axes, shape_at

_SHOWN = 8
_LAYOUTS = 16  # remembered at most; each is a list of views
# A dictionary of a module, a name in it, and what has to be there.
Link = tuple[Mapping[str, Any], str, object]


@dataclass(slots=True)
class Slot:
    """One tensor of an adapter where the model reads it, under its key of a PEFT checkpoint.

    `axes` are those of its rank, `groups` the groups of the convolution that it adapts.
    """

    key: str
    tensor: torch.Tensor
    axes: tuple[int, ...] = ()
    groups: int = 1

    def part(self, rank: int) -> torch.Tensor:
        """The part that an adapter of this rank fills."""
        return self.part_of(self.tensor.detach(), rank)

    def part_of(self, tensor: torch.Tensor, rank: int) -> torch.Tensor:
        """The same part of another tensor in this place."""
        return part_at(tensor, self.axes, rank, self.groups)

    def shape(self, rank: int) -> tuple[int, ...]:
        return shape_at(self.tensor.shape, self.axes, rank, self.groups)


@dataclass(slots=True)
class Place:
    """A site in the live model. `rank` is that of its tensors, padding included; 1 for a method without one."""

    site: Site
    layer: BaseTunerLayer
    slots: tuple[Slot, ...]
    groups: int
    rank: int

    @property
    def scaling(self) -> dict[str, Any] | None:
        """The layer's factors on its adapters' updates, by adapter; None for a method without one."""
        found = vars(self.layer).get("scaling")
        return found if isinstance(found, dict) and self.site.adapter in found else None

    @property
    def has_rank(self) -> bool:
        """Whether any of its tensors has an axis that is its rank."""
        return any(slot.axes for slot in self.slots)


@dataclass(frozen=True)
class Layout:
    """The part of the slots that adapters of certain ranks fill: `parts` of the live tensors, by `keys`.

    `shapes` are those of the adapter's own tensors, `zeros` the live tensors that it does not fill entirely.
    """

    keys: tuple[str, ...]
    parts: tuple[torch.Tensor, ...]
    shapes: tuple[tuple[int, ...], ...]
    zeros: tuple[torch.Tensor, ...]

    def of(self, tensors: Mapping[str, torch.Tensor]) -> list[torch.Tensor]:
        """An adapter's tensors in the order and the form of the parts."""
        return [
            tensor if (tensor := tensors[key]).dim() == part.dim() else tensor.view(part.shape)
            for key, part in zip(self.keys, self.parts, strict=True)
        ]


class Table:
    """What the runtime reads and writes: the places of the plan's sites, and the tensors that are of no site.

    Those are of the modules that are trained in full, and what all layers of an adapter use together.
    Raises SurgeryError (E0509) if the model does not carry the plan's adapters.
    """

    def __init__(self, model: Adapted, plan: Plan) -> None:
        base = base_model(model)
        layers = _layers(base, plan)
        self.wrappers = [wrapper for _, wrapper in wrappers(base)]
        state = {key: t for tensors in adapter_state(model, plan).values() for key, t in tensors.items()}
        of_site: dict[str, dict[str, torch.Tensor]] = {site.path: {} for site in plan.sites}
        self.others: list[Slot] = []
        for key, tensor in state.items():
            if (path := _path_of(key, of_site)) is None:
                self.others.append(Slot(key, tensor))
            else:
                of_site[path][key] = tensor
        self.places = {site.path: _place(site, layers[site.path], of_site[site.path]) for site in plan.sites}
        self.slots = {slot.key: slot for place in self.places.values() for slot in place.slots}
        self.slots |= {slot.key: slot for slot in self.others}
        self._layouts: dict[tuple[int, ...], Layout] = {}
        self._pointers = [(slot.tensor, slot.tensor.data_ptr()) for slot in self.slots.values()]
        holders = [*((base, site.path) for site in plan.sites), *((base, path) for path, _ in wrappers(base))]
        self._links = list(_links(holders, {id(slot.tensor) for slot in self.slots.values()}))

    def is_current(self) -> bool:
        """Whether every tensor is still where it was found, in the model and in memory."""
        for holder, name, value in self._links:
            if holder.get(name) is not value:
                return False
        return all(tensor.data_ptr() == pointer for tensor, pointer in self._pointers)

    def watch_scales(self) -> None:
        """From now on the scales that are tensors have to stay the same ones, too."""
        for place in self.places.values():
            if (scaling := place.scaling) is not None:
                self._links.append((scaling, place.site.adapter, scaling[place.site.adapter]))

    def layout(self, sites: Mapping[str, Applied]) -> Layout:
        """Where an adapter with these sites lies; remembered for adapters of the same ranks."""
        ranks = tuple(sites[path].rank if path in sites else 0 for path in self.places)
        found = self._layouts.get(ranks)
        if found is None:
            if len(self._layouts) >= _LAYOUTS:
                self._layouts.clear()
            found = self._layouts[ranks] = self._laid_out(ranks)
        return found

    def _laid_out(self, ranks: tuple[int, ...]) -> Layout:
        filled: list[tuple[Slot, int]] = []
        zeros: list[torch.Tensor] = []
        for place, rank in zip(self.places.values(), ranks, strict=True):
            if rank != place.rank:
                zeros += [slot.tensor for slot in place.slots if slot.axes or not rank]
            if rank:
                filled += [(slot, rank) for slot in place.slots]
        filled += [(slot, 1) for slot in self.others]
        return Layout(
            tuple(slot.key for slot, _ in filled),
            tuple(slot.part(rank) for slot, rank in filled),
            tuple(slot.shape(rank) for slot, rank in filled),
            tuple(zeros),
        )


def _layers(base: nn.Module, plan: Plan) -> dict[str, BaseTunerLayer]:
    layers: dict[str, BaseTunerLayer] = {}
    differences: list[str] = []
    for site in plan.sites:
        try:
            layer = base.get_submodule(site.path)
        except AttributeError:
            differences.append(f"`{site.path}` does not exist")
            continue
        if not isinstance(layer, BaseTunerLayer):
            differences.append(f"`{site.path}` is planned and not adapted")
        elif site.adapter not in layer._get_available_adapters():
            differences.append(f"`{site.path}` carries no adapter `{site.adapter}`")
        else:
            layers[site.path] = layer
    if differences:
        raise SurgeryError(_not_as_planned(differences))
    return layers


def _path_of(key: str, paths: Mapping[str, object]) -> str | None:
    """The site that a key of a checkpoint belongs to: the longest of its beginnings that is one."""
    path = key.removeprefix(MODEL_PREFIX)
    while path:
        path = path.rpartition(".")[0]
        if path in paths:
            return path
    return None


def _place(site: Site, layer: BaseTunerLayer, tensors: Mapping[str, torch.Tensor]) -> Place:
    begin = len(f"{MODEL_PREFIX}{site.path}.")
    axes = rank_axes([key[begin:] for key in tensors]) if is_ranked(site) else {}
    groups = int(getattr(layer.get_base_layer(), "groups", 1)) if site.method == "lora" else 1
    slots = tuple(Slot(key, tensor, axes.get(key[begin:], ()), groups) for key, tensor in tensors.items())
    rank = next((_rank(slot) for slot in slots if slot.axes), rank_of(site))
    return Place(site, layer, slots, groups, rank)


def _rank(slot: Slot) -> int:
    axis = slot.axes[0]
    return slot.tensor.shape[axis] * (1 if axis == 0 else slot.groups)


def _links(holders: Iterable[tuple[nn.Module, str]], wanted: set[int]) -> Iterator[Link]:
    """The way from the parent of each module to the tensors in it."""
    for root, path in holders:
        parent_path, _, name = path.rpartition(".")
        parent = root.get_submodule(parent_path)
        parent = getattr(parent, "_orig_mod", parent)  # one that was compiled by itself
        if name:
            yield parent._modules, name, parent._modules[name]
        yield from _ways(root.get_submodule(path), wanted)


def _ways(module: nn.Module, wanted: set[int]) -> Iterator[Link]:
    for held in (module._parameters, module._buffers):
        for name, value in held.items():
            if id(value) in wanted:
                yield held, name, value
    for name, child in module._modules.items():
        if child is not None and name not in ("base_layer", "original_module"):
            inner = list(_ways(child, wanted))
            if inner:
                yield module._modules, name, child
                yield from inner


def _not_as_planned(differences: list[str]) -> Diagnostic:
    more = len(differences) - _SHOWN
    return Diagnostic(
        "E0509",
        "the model does not carry the adapters of the plan",
        notes=(*differences[:_SHOWN], *([f"and {more} more"] if more > 0 else [])),
        helps=("give the model that `surgery.apply(model, plan)` returned, and the same plan",),
    )
