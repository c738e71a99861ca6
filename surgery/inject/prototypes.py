"""Which sites PEFT has to adapt itself, and which get copies of what it made there."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from peft import PeftConfig
from torch import nn
from torch._subclasses.fake_tensor import FakeTensor

from surgery.methods import METHODS
from surgery.planning.plan import Site


@dataclass(frozen=True)
class Copying:
    """With which settings the layers of a method are copied, and how PEFT's layer draws its start values."""

    fits: Callable[[Mapping[str, Any]], bool]
    draw: Callable[[Any, str, PeftConfig], None]


# Only methods whose layers hold nothing but what follows from the module's class, sizes and the settings are here.
# `tests/inject/test_stamped.py` compares the copies of each with what PEFT makes.
COPIED: Mapping[str, Copying] = {
    "lora": Copying(
        lambda settings: settings["init"] in (True, "gaussian") and settings["bdlora"] is None,
        lambda layer, name, config: layer.reset_lora_parameters(name, config.init_lora_weights),
    ),
    "loha": Copying(
        lambda settings: settings["init"],
        lambda layer, name, config: layer.reset_adapter_parameters(name),
    ),
    "hra": Copying(
        lambda settings: settings["init"],
        lambda layer, name, config: layer.reset_hra_parameters(name),
    ),
    "ia3": Copying(
        lambda settings: settings["init"],
        lambda layer, name, config: layer.reset_ia3_parameters(name),
    ),
    "hira": Copying(
        lambda settings: settings["init"],
        lambda layer, name, config: layer.reset_hira_parameters(name, config.init_weights),
    ),
    "c3a": Copying(
        lambda settings: settings["init"] is not True,  # PEFT draws nothing then
        lambda layer, name, config: layer.reset_c3a_parameters(name, config.init_weights),
    ),
}
_PLAIN = (nn.Parameter, torch.Tensor, FakeTensor)
# What every module has, for hooks and the like: PEFT leaves it on the module.
_HOOKS = vars(nn.Module()).keys() - {"training", "_parameters", "_buffers", "_modules"}
_CONSTANTS = (type(None), bool, int, float, str, torch.dtype, torch.device, torch.Size)


@dataclass(frozen=True)
class Prototype:
    """A site for PEFT to adapt, and the sites whose layers are copies of the one that it makes there."""

    site: Site
    copies: tuple[Site, ...]


def prototypes(sites: Iterable[Site], modules: Mapping[str, nn.Module]) -> list[Prototype]:
    """The sites in groups for whose modules PEFT makes the same layer; one whose method is not copied stands alone."""
    groups: dict[Any, list[Site]] = {}
    for site in sites:
        alike = (site.adapter, *_per_site(site), *_traits(modules[site.path])) if _is_copied(site) else site.full_path
        groups.setdefault(alike, []).append(site)
    return [Prototype(first, tuple(others)) for first, *others in groups.values()]


def draw(site: Site, layer: nn.Module, name: str, config: PeftConfig) -> None:
    """Give a copied layer start values of its own, by PEFT's method for it."""
    COPIED[site.method].draw(layer, name, config)


def _is_copied(site: Site) -> bool:
    if site.parameter:
        return False
    copying = COPIED.get(site.method)
    return copying is not None and copying.fits(site.settings) and not METHODS[site.method].reads_weights(site.settings)


def _per_site(site: Site) -> list[Any]:
    return [site.settings[setting.name] for setting in METHODS[site.method].settings if setting.per_site]


def _traits(module: nn.Module) -> list[Any]:
    """All that PEFT may read of a module. One that holds more than plain values and tensors is like no other."""
    traits: list[Any] = [type(module)]
    for name, value in vars(module).items():
        if name in ("_parameters", "_buffers"):
            traits += [(key, *_tensor_traits(tensor)) for key, tensor in value.items()]
        elif isinstance(value, _CONSTANTS) or (type(value) is tuple and all(isinstance(v, _CONSTANTS) for v in value)):
            traits.append((name, value))
        elif name not in _HOOKS:
            is_empty = isinstance(value, (dict, list, set)) and not value
            traits.append((name, None if is_empty else id(module)))
    return traits


def _tensor_traits(tensor: torch.Tensor | None) -> tuple[Any, ...]:
    if tensor is None:
        return (None,)
    if type(tensor) not in _PLAIN:  # quantised, distributed, ...: PEFT may read more of it
        return (id(tensor),)
    return type(tensor), tensor.shape, tensor.dtype, tensor.device, tensor.layout
