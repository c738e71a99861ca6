"""Whether one backward run reaches every adapter, and what keeps it away where it does not."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import nn

from surgery.inject.outputs import SEED, call
from surgery.inject.state import Adapted, base_model, layer_at, layer_tensors
from surgery.inject.verification import Gradients
from surgery.planning.plan import Plan

# How many families of all-zero layers are tried one by one; with more, they are named together.
_TRIED = 8


def gradients_at(model: Adapted, plan: Plan, inputs: Any) -> Gradients:
    """Run the example call and one backward of a random linear loss on its outputs, and look at every adapter.

    An adapter is reached when any of its parameters has a non-zero gradient: of a fresh LoRA, B has one and A
    cannot. Where some are not reached, the same is done with the frozen all-zero layers of the base model set to
    random values for a moment: what is reached then is blocked by them, and by which of them is found by zeroing one
    family of them at a time.
    """
    paths = [site.path for site in plan.sites]
    ran, reached = _run(model, plan, inputs)
    silent = [path for path in paths if path not in reached]
    if not silent:
        return Gradients("reached", len(reached))
    zero = _zero_layers(base_model(model))
    blockers = _blockers(model, plan, inputs, silent, zero) if zero else {}
    blocked = {path: f"kept from the outputs by {_named(blockers[path])}" for path in silent if path in blockers}
    missing = {path: _reason(path, ran) for path in silent if path not in blocked}
    return Gradients("missing" if missing else "blocked", len(reached), blocked, missing)


def _reason(path: str, ran: set[str]) -> str:
    if path not in ran:
        return "its module never ran in this call"
    return "no gradient comes back to it: its output is detached, unused, or multiplied by zero"


def _named(families: list[str]) -> str:
    return f"frozen layers that are all zeros ({', '.join(f'`{family}`' for family in families)})"


def _run(model: Adapted, plan: Plan, inputs: Any) -> tuple[set[str], set[str]]:
    """The sites that ran in one call, and those that the gradient of a loss on its outputs reaches."""
    base = base_model(model)
    layers = {site.path: layer_at(base, site.path) for site in plan.sites}
    ran: set[str] = set()
    hooks = [base.get_submodule(path).register_forward_hook(lambda *_, path=path: ran.add(path)) for path in layers]
    try:
        outputs = [output for output in call(model, inputs) if output.requires_grad]
    finally:
        for hook in hooks:
            hook.remove()
    if not outputs:
        return ran, set()
    tensors = {site.path: [t for _, t in layer_tensors(layers[site.path], site.adapter)] for site in plan.sites}
    flat = [tensor for some in tensors.values() for tensor in some]
    gradients = iter(torch.autograd.grad(_loss(outputs), flat, allow_unused=True))
    reached = set()
    for path, some in tensors.items():
        found = [next(gradients) for _ in some]
        if any(gradient is not None and bool(gradient.any()) for gradient in found):
            reached.add(path)
    return ran, reached


def _loss(outputs: Iterable[torch.Tensor]) -> torch.Tensor:
    """A random weighting of all outputs: a plain sum is constant behind a softmax or a normalisation."""
    generator = torch.Generator().manual_seed(SEED)
    terms = [
        (output.float() * torch.randn(output.shape, generator=generator).to(output.device)).sum() for output in outputs
    ]
    return torch.stack([term.to(terms[0].device) for term in terms]).sum()


def _zero_layers(base: nn.Module) -> dict[str, list[nn.Parameter]]:
    """The frozen, all-zero weights of the base model by family: the layer's path with its numbers as `*`."""
    families: dict[str, list[nn.Parameter]] = {}
    for path, module in base.named_modules():
        weight = module._parameters.get("weight")
        if weight is None or isinstance(module, BaseTunerLayer) or weight.requires_grad or weight.any():
            continue
        family = re.sub(r"(?<![^.])\d+(?![^.])", "*", path.removesuffix(".base_layer"))
        families.setdefault(family, []).append(weight)
    return families


def _blockers(
    model: Adapted, plan: Plan, inputs: Any, silent: list[str], zero: dict[str, list[nn.Parameter]]
) -> dict[str, list[str]]:
    """For every silent site that is reached with random values in the zero layers: the families that keep it silent."""
    everything = [weight for weights in zero.values() for weight in weights]
    with _randomised(everything):
        _, reached = _run(model, plan, inputs)
        freed = [path for path in silent if path in reached]
        if len(zero) > _TRIED:
            return {path: list(zero) for path in freed}
        blockers: dict[str, list[str]] = {path: [] for path in freed}
        for family, weights in zero.items():
            with _zeroed(weights):
                _, still = _run(model, plan, inputs)
            for path in freed:
                if path not in still:
                    blockers[path].append(family)
    # Layers that block only together are named together.
    return {path: families or list(zero) for path, families in blockers.items()}


@contextmanager
def _randomised(weights: list[nn.Parameter]) -> Iterator[None]:
    generator = torch.Generator().manual_seed(SEED)
    with _standing_in(weights, [torch.randn(w.shape, generator=generator).mul_(0.02).to(w) for w in weights]):
        yield


@contextmanager
def _zeroed(weights: list[nn.Parameter]) -> Iterator[None]:
    with _standing_in(weights, [torch.zeros_like(weight.data) for weight in weights]):
        yield


@contextmanager
def _standing_in(weights: list[nn.Parameter], values: list[torch.Tensor]) -> Iterator[None]:
    """Other values in place of the weights' own, whose storage is put back untouched."""
    own = [weight.data for weight in weights]
    try:
        for weight, value in zip(weights, values, strict=True):
            weight.data = value
        yield
    finally:
        for weight, data in zip(weights, own, strict=True):
            weight.data = data
