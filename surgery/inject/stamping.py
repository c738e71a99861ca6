"""Putting copies of a PEFT layer into a model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from peft import PeftConfig
from torch import nn

from surgery.inject.devices import holds_values
from surgery.inject.prototypes import Prototype, draw
from surgery.inject.stamp import Recipe
from surgery.inject.state import layer_at


def stamp(model: nn.Module, modules: Mapping[str, nn.Module], group: Prototype, config: PeftConfig) -> None:
    """Put a copy of the layer at the group's site around the module of each other site, with start values of its own.

    `model` is the user's model, `modules` its modules by path before PEFT put layers around some.
    """
    if not group.copies:
        return
    site, name = group.site, group.site.adapter
    layer: Any = layer_at(model, site.path)
    # PEFT gives all layers one list of active adapters, and some of them what the model holds, as its device map.
    shared = [layer.active_adapters, *vars(model).values()]
    make = Recipe(modules[site.path], site.path, shared).of(layer)
    assert make is not None
    drawn = any(holds_values(child) for key, child in layer.named_children() if key != "base_layer")
    for copy in group.copies:
        new = make(modules[copy.path], copy.path)
        parent, _, attribute = copy.path.rpartition(".")
        setattr(modules[parent], attribute, new)
        if drawn:
            draw(copy, new, name, config)
