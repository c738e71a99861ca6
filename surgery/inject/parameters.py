"""Adapters on single parameters: PEFT's wrappers of the modules that hold them, and the proof that it takes no others.

PEFT wraps a module once for each of its adapted parameters, one wrapper inside the other, in the order in which the
module registered them (`peft.tuners.lora.layer.ParamWrapper`). While the module runs, its parameter is the sum of
its own value and the adapter's product.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from typing import Any

import torch
from peft import PeftConfig
from peft.tuners.lora.layer import ParamWrapper
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import nn

from surgery.diagnostics import Diagnostic
from surgery.inject.tree import named_modules
from surgery.methods.parameters import taken_by, without_wrappers
from surgery.planning.plan import Site
from surgery.planning.words import counted, some


def target_parameters(sites: Iterable[Site]) -> list[str]:
    """What a LoRA configuration names to adapt the parameters among these sites: their full paths."""
    return sorted(site.full_path for site in sites if site.parameter)


def layers_by_site(model: nn.Module) -> dict[str, BaseTunerLayer]:
    """Every layer of PEFT's in an adapted model by what it adapts: the full path of a module, or of a parameter."""
    layers: dict[str, BaseTunerLayer] = {}
    for path, module in named_modules(model):
        if isinstance(module, ParamWrapper):
            layers[f"{without_wrappers(path)}.{module.parameter_name}"] = module
        elif isinstance(module, BaseTunerLayer):
            layers[path] = module
    return layers


def wrapper_of(model: nn.Module, site: Site) -> tuple[str, ParamWrapper]:
    """The wrapper that adapts a site's parameter, after its path: the module's, with `base_layer` for each wrapper
    around it.
    """
    path, layer = site.path, model.get_submodule(site.path)
    while isinstance(layer, ParamWrapper):
        if layer.parameter_name == site.parameter:
            return path, layer
        path, layer = f"{path}.base_layer", layer.base_layer
    raise AssertionError(f"{site.full_path} is not adapted")


def misfit(site: Site, module: nn.Module | None) -> str | None:
    """How a live module differs from the one whose parameter a site adapts, or None."""
    if module is None:
        return f"`{site.path}` does not exist"
    kind = type(module).__name__
    if kind != site.kind:
        return f"`{site.path}` is a {type(module).__module__}.{kind}, the plan says {site.kind}"
    parameter = module._parameters.get(site.parameter)
    if parameter is None:
        return f"`{site.full_path}` is no parameter"
    if list(parameter.shape) != site.shape:
        return f"`{site.full_path}` has the shape {list(parameter.shape)}, the plan says {site.shape}"
    if hasattr(module, "parametrizations"):
        return f"`{site.path}` is parametrised, and PEFT would take its parameters by other names"
    return None


def inexact(model: nn.Module, config: PeftConfig, sites: Collection[Site]) -> Iterator[Diagnostic]:
    """What PEFT would adapt otherwise than planned with this configuration, by its own rules (E0406).

    `config` is the one that PEFT injects by: as it rewrites it for models whose experts transformers has fused.
    """
    adapted = [site for site in sites if site.parameter]
    targets = getattr(config, "target_parameters", None) or ()
    if not adapted and not targets:
        return
    planned = {(site.path, site.parameter) for site in adapted}
    modules = dict(named_modules(model))
    held = [(path, name) for path, module in modules.items() for name, _ in module.named_parameters(recurse=False)]
    taken = set(taken_by(targets, held))
    # It would look into a child called `base_layer`, and takes a module of this name for a wrapper.
    taken -= {(p, name) for p, name in taken if hasattr(modules[p], "base_layer") or without_wrappers(p) != p}
    for paths, how in ((taken - planned, "would also adapt"), (planned - taken, "would not adapt")):
        if paths:
            names = sorted(".".join(path) for path in paths)
            yield _inexact(f"PEFT {how} {counted(len(names), 'parameter')}: {some(names)}", adapted)
    # PEFT adds the update of a single matrix as a matrix, whichever way round its stack holds it.
    if turned := [s for s in adapted if s.shape[:-2] == [1] and getattr(modules[s.path], "is_transposed", False)]:
        yield _inexact(
            f"PEFT would add the update of {turned[0].full_path}, a stack of one, the wrong way round", turned
        )


def _inexact(message: str, sites: Collection[Site]) -> Diagnostic:
    return Diagnostic(
        "E0406",
        message,
        place=next((site.place for site in sites), None),
        notes=("it matches `target_parameters` by the ends of paths, with every `.base_layer` left out",),
        helps=("select all parameters whose paths end alike with one target, or rename the modules of the model",),
    )


def merged_parameter(layer: Any, adapter: str) -> torch.Tensor:
    """The parameter with an adapter's product added in float32 (float64 stays), rounded once to its own dtype."""
    own: torch.Tensor = getattr(layer.get_base_layer(), layer.parameter_name).detach()
    wide = torch.float64 if own.dtype == torch.float64 else torch.float32
    a, b = (side[adapter].weight.detach().to(wide) for side in (layer.lora_A, layer.lora_B))
    a = a.reshape(layer.num_experts, -1, a.shape[-1])  # experts, r, inputs
    b = b.reshape(b.shape[0], -1, layer.num_experts)  # outputs, r, experts
    order = "eoi" if own.dim() == 2 or layer._did_swap_in_out_features else "eio"
    product = torch.einsum(f"ore,eri->{order}", b, a).reshape(own.shape)
    return (own.to(wide) + layer.scaling[adapter] * product).to(own.dtype)
