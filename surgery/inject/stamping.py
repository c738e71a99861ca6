"""Putting copies of a PEFT layer into a model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from peft import PeftConfig
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import nn
from torch._subclasses.fake_tensor import FakeTensor

from surgery.inject.prototypes import Prototype, draw
from surgery.inject.stamp import Recipe
from surgery.inject.state import layer_at, layer_tensors
from surgery.planning.plan import Site

_NO_ADAPTERS = ("_parameters", "_buffers", "_modules", "base_layer", "kwargs")


def stamp(model: nn.Module, modules: Mapping[str, nn.Module], group: Prototype, config: PeftConfig) -> None:
    """Put a copy of the layer at the group's site around the module of each other site, with start values of its own.

    `model` is the user's model, `modules` its modules by path as they were before PEFT put layers around some.
    """
    if not group.copies:
        return
    layer = layer_at(model, group.site.path)
    make = _recipe(model, modules, group.site, layer).of(layer)
    assert make is not None
    drawn = _has_values(layer, group.site.adapter)
    for site in group.copies:
        copy = make(modules[site.path], site.path)
        parent, _, attribute = site.path.rpartition(".")
        setattr(modules[parent], attribute, copy)
        if drawn:
            draw(site, copy, site.adapter, config)


def stamp_entries(model: nn.Module, modules: Mapping[str, nn.Module], group: Prototype, config: PeftConfig) -> None:
    """As `stamp`, where all modules of the group carry layers: these take copies of what one holds of the adapter."""
    if not group.copies:
        return
    name = group.site.adapter
    layer = layer_at(model, group.site.path)
    recipe = _recipe(model, modules, group.site, layer)
    entries = [(container, held[name], recipe.of(held[name])) for container, held in _holding(layer, name)]
    drawn = _has_values(layer, name)
    for site in group.copies:
        other: Any = layer_at(model, site.path)
        for container, value, make in entries:
            getattr(other, container)[name] = make(modules[site.path], site.path) if make is not None else value
        if drawn:
            draw(site, other, name, config)


def _recipe(model: nn.Module, modules: Mapping[str, nn.Module], site: Site, layer: BaseTunerLayer) -> Recipe:
    # PEFT gives all layers one list of active adapters, and some of them what the model holds, as its device map.
    return Recipe(modules[site.path], site.path, shared=[layer.active_adapters, *vars(model).values()])


def _holding(layer: Any, name: str) -> Iterator[tuple[str, Any]]:
    """The containers of a layer that hold something under the name of an adapter."""
    containers = {**vars(layer), **layer._modules}
    for container, held in containers.items():
        if container not in _NO_ADAPTERS and isinstance(held, (dict, nn.ModuleDict, nn.ParameterDict)) and name in held:
            yield container, held


def _has_values(layer: Any, name: str) -> bool:
    return any(not p.is_meta and not isinstance(p, FakeTensor) for _, p in layer_tensors(layer, name))
