"""Whether merged weights compute what the adapted model computes: layer by layer, and as a whole."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import nn

from surgery.exporting.format import Proof
from surgery.exporting.layer import base_weight, float_copy
from surgery.inject.outputs import SEED, call, evaluating
from surgery.inject.state import Adapted, base_model, layer_at
from surgery.planning.plan import Plan

# By the base weight's dtype: rounding the merged weight once changes an output by about one unit in its last place.
LAYER_TOLERANCE = {torch.float64: 1e-10, torch.float32: 1e-5, torch.float16: 4e-3, torch.bfloat16: 3e-2}
# Through a whole model differences grow, and activations in half precision are rounded at every layer.
OUTPUT_TOLERANCE = {torch.float64: 1e-8, torch.float32: 1e-3, torch.float16: 5e-2, torch.bfloat16: 2e-1}


def prove_layers(model: Adapted, plan: Plan, written: Mapping[str, torch.Tensor]) -> Proof:
    """Every adapted layer on random input, in float32, against the same layer with its written weight alone."""
    base = base_model(model)
    proofs = [_prove_layer(site.path, layer_at(base, site.path), written[f"{site.path}.weight"]) for site in plan.sites]
    worst = max(proofs, key=lambda proof: proof.difference / proof.tolerance)
    return Proof(f"{len(proofs)} layers on random input, worst {worst.what}", worst.difference, worst.tolerance)


def _prove_layer(path: str, layer: BaseTunerLayer, weight: torch.Tensor) -> Proof:
    adapted = float_copy(layer)
    plain = adapted.get_base_layer()
    x = _random_input(plain)
    with torch.no_grad():
        expected = adapted(x)
        plain.weight.copy_(weight)
        actual = plain(x)
    return Proof(f"`{path}`", relative([actual], [expected]), LAYER_TOLERANCE[weight.dtype])


def _random_input(layer: Any) -> torch.Tensor:
    """An input for a layer: a few vectors, or signals longer than the kernel."""
    generator = torch.Generator().manual_seed(SEED)
    weight = layer.weight
    if isinstance(layer, nn.Embedding):
        return torch.arange(layer.num_embeddings, device=weight.device)
    if isinstance(layer, (nn.Conv1d, nn.Conv2d)):
        spans = [d * (k - 1) + 5 for d, k in zip(layer.dilation, layer.kernel_size, strict=True)]
        shape = [2, layer.in_channels, *spans]
    else:
        shape = [8, layer.in_features if isinstance(layer, nn.Linear) else weight.shape[0]]
    return torch.randn(shape, generator=generator).to(weight)


def relative(actual: list[torch.Tensor], expected: list[torch.Tensor]) -> float:
    """The largest absolute difference over the largest absolute value expected; infinite for NaN or other shapes."""
    worst = 0.0
    for a, b in zip(actual, expected, strict=True):
        if a.shape != b.shape:
            return float("inf")
        if not b.numel():
            continue
        gap, size = (a.double() - b.double()).abs().max().item(), b.double().abs().max().item()
        worst = max(worst, float("inf") if gap != gap else gap / size if size else gap)
    return worst


def prove_outputs(model: Adapted, plan: Plan, written: Mapping[str, torch.Tensor], inputs: Any) -> Proof:
    """One call of the adapted model against the same call with the written weights and no adapter."""
    with evaluating(model), torch.no_grad():
        expected = call(model, inputs)
        with _merged_in(model, plan, written):
            actual = call(model, inputs)
    dtypes = [base_weight(layer_at(base_model(model), site.path)).dtype for site in plan.sites]
    tolerance = max(OUTPUT_TOLERANCE[dtype] for dtype in dtypes)
    return Proof("outputs of the example call", relative(actual, expected), tolerance)


@contextmanager
def _merged_in(model: Adapted, plan: Plan, written: Mapping[str, torch.Tensor]) -> Iterator[None]:
    """The written weights in place of the base layers' own, and these layers' adapters off, for a moment."""
    layers = {site.path: layer_at(base_model(model), site.path) for site in plan.sites}
    weights = {path: base_weight(layer) for path, layer in layers.items()}
    own = {path: weight.data for path, weight in weights.items()}
    try:
        for path, layer in layers.items():
            weights[path].data = written[f"{path}.weight"].to(own[path].device)
            layer._disable_adapters = True  # `enable_adapters` would also change `requires_grad`
        yield
    finally:
        for path, layer in layers.items():
            layer._disable_adapters = False
            weights[path].data = own[path]
