"""Whether a gradient reaches every adapter and a step moves it, and what keeps it away where it does not."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import nn

from surgery.capturing.quantised import bits_of
from surgery.inject.state import Adapted, base_model, layer_of, shared_tensors, site_tensors, trainable_tensors
from surgery.methods import METHODS
from surgery.planning.plan import Plan
from surgery.verifying.outputs import SEED, call, tensors_of
from surgery.verifying.values import standing_in
from surgery.verifying.verification import Gradients

# How many families of all-zero layers are tried one by one; with more, they are named together.
_TRIED = 8
# The learning rate of the one step: AdamW moves each number by about this much, more than bfloat16 rounds away at 1.
_STEP = 0.01


def gradients_at(model: Adapted, plan: Plan, inputs: Any) -> Gradients:
    """Run the example call and one backward of a random linear loss on its outputs, and look at every adapter.

    An adapter is reached when any of its parameters has a non-zero gradient: of a fresh LoRA, B has one and A
    cannot. One step of AdamW on the trained parameters, put back bit for bit, then has to move it, and a second
    backward shows which parameters have a gradient from there on. Where some adapters are not reached, the first is
    done again with the frozen all-zero layers of the base model set to random values for a moment: what is reached
    then is blocked by them, and by which of them is found by zeroing one family of them at a time.
    """
    paths = [site.full_path for site in plan.sites]
    run = _run(model, plan, inputs)
    moved, parameters, with_gradient = _step(model, plan, inputs, run.gradients)
    found = Gradients(
        "reached",
        reached=len(run.reached),
        moved=len(moved),
        stuck=tuple(path for path in paths if path in run.reached - moved),
        parameters=parameters,
        parameters_reached=with_gradient,
    )
    silent = [path for path in paths if path not in run.reached]
    if not silent:
        return found
    zero = _zero_layers(base_model(model))
    blockers = _blockers(model, plan, inputs, silent, zero) if zero else {}
    blocked = {path: f"kept from the outputs by {_named(blockers[path])}" for path in silent if path in blockers}
    missing = {path: _reason(path, run.ran) for path in silent if path not in blocked}
    return replace(found, status="missing" if missing else "blocked", blocked=blocked, missing=missing)


def _reason(path: str, ran: set[str]) -> str:
    if path not in ran:
        return "its module never ran in this call"
    return "no gradient comes back to it: its output is detached, unused, or multiplied by zero"


def _named(families: list[str]) -> str:
    return f"frozen layers that are all zeros ({', '.join(f'`{family}`' for family in families)})"


@dataclass(frozen=True)
class _Run:
    """One call and backward: the sites that ran, those that the gradient reaches, and the gradients by tensor."""

    ran: set[str]
    reached: set[str]
    gradients: Mapping[nn.Parameter, torch.Tensor]


def _run(model: Adapted, plan: Plan, inputs: Any) -> _Run:
    sites = _tensors_by_site(model, plan)
    base = base_model(model)
    results: dict[str, torch.Tensor] = {}
    ran: set[str] = set()

    def note(path: str, result: Any) -> None:
        ran.add(path)
        # A site that shares its parameters with others is reached when its result is.
        if not sites[path] and (tensor := next(tensors_of(result), None)) is not None and tensor.requires_grad:
            results[path] = tensor

    hooks = [
        _module(layer_of(base, site)).register_forward_hook(
            lambda _, __, result, path=site.full_path: note(path, result)
        )
        for site in plan.sites
    ]
    try:
        outputs = [output for output in call(model, inputs) if output.requires_grad]
    finally:
        for hook in hooks:
            hook.remove()
    if not outputs:
        return _Run(ran, set(), {})
    trained = list(trainable_tensors(model, plan))
    wanted = [*trained, *results.values()]
    found = torch.autograd.grad(_loss(outputs), wanted, allow_unused=True)
    gradients = {tensor: gradient for tensor, gradient in zip(trained, found, strict=False) if _is_felt(gradient)}
    reached = {path for path, own in sites.items() if any(tensor in gradients for tensor in own)}
    reached |= {path for path, gradient in zip(results, found[len(trained) :], strict=True) if _is_felt(gradient)}
    return _Run(ran, reached, gradients)


def _module(layer: BaseTunerLayer) -> nn.Module:
    assert isinstance(layer, nn.Module)
    return layer


def _is_felt(gradient: torch.Tensor | None) -> bool:
    return gradient is not None and bool(gradient.any())


def _tensors_by_site(model: Adapted, plan: Plan) -> dict[str, list[nn.Parameter]]:
    """The trained parameters of each site; none where its method shares some, which say nothing of one site.

    (The others need not have a gradient at first: Lily's router multiplies a shared zero.)
    """
    base = base_model(model)
    return {
        site.full_path: [] if METHODS[site.method].shared_parameters else list(site_tensors(base, site).values())
        for site in plan.sites
    }


def _step(
    model: Adapted, plan: Plan, inputs: Any, gradients: Mapping[nn.Parameter, torch.Tensor]
) -> tuple[set[str], int, int]:
    """The sites that one step moves; how many parameters are trained; how many have a gradient after the step."""
    trained = list(trainable_tensors(model, plan))
    own = {tensor: tensor.data for tensor in trained}
    with standing_in({tensor: tensor.detach().clone() for tensor in trained}):
        for tensor, gradient in gradients.items():
            tensor.grad = gradient
        torch.optim.AdamW(trained, lr=_STEP, weight_decay=0.0).step()
        for tensor in gradients:
            tensor.grad = None
        changed = {tensor for tensor in trained if not torch.equal(tensor, own[tensor])}
        after = _run(model, plan, inputs).gradients
    base = base_model(model)
    shared = {site.adapter: set[nn.Parameter]() for site in plan.sites}
    for adapter, tensors in shared.items():
        tensors.update(tensor for _, tensor in shared_tensors(model, adapter))
    moved = {
        site.full_path
        for site in plan.sites
        if changed.intersection(site_tensors(base, site).values()) or changed & shared[site.adapter]
    }
    return moved, len(trained), len(after)


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
        if weight is None or isinstance(module, BaseTunerLayer) or weight.requires_grad:
            continue
        if bits_of(module) or weight.any():
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
        reached = _run(model, plan, inputs).reached
        freed = [path for path in silent if path in reached]
        if len(zero) > _TRIED:
            return {path: list(zero) for path in freed}
        blockers: dict[str, list[str]] = {path: [] for path in freed}
        for family, weights in zero.items():
            with _zeroed(weights):
                still = _run(model, plan, inputs).reached
            for path in freed:
                if path not in still:
                    blockers[path].append(family)
    # Layers that block only together are named together.
    return {path: families or list(zero) for path, families in blockers.items()}


@contextmanager
def _randomised(weights: list[nn.Parameter]) -> Iterator[None]:
    generator = torch.Generator().manual_seed(SEED)
    with standing_in({w: torch.randn(w.shape, generator=generator).mul_(0.02).to(w) for w in weights}):
        yield


@contextmanager
def _zeroed(weights: list[nn.Parameter]) -> Iterator[None]:
    with standing_in({weight: torch.zeros_like(weight.data) for weight in weights}):
        yield
