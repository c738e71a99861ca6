"""Adapters merged into the weights they adapt, layer by layer, and whether that computes the same.

A layer is merged on a copy of itself in float32 (float64 stays) and rounded once, to the dtypes of its base layer. Its
bias goes with it: some methods change that too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from typing import Any

import torch
from peft.tuners.lora.layer import ParamWrapper
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import nn

from surgery.capturing.convert import modules_of
from surgery.capturing.quantised import bits_of
from surgery.graph import Init
from surgery.inject.parameters import merged_parameter
from surgery.inject.state import Adapted, base_model, layer_at, layer_of
from surgery.methods import METHODS
from surgery.planning.plan import Site
from surgery.verifying.outputs import SEED, call, evaluating
from surgery.verifying.values import standing_in
from surgery.verifying.verification import Proof

# By the base weight's dtype: rounding the merged weight once changes an output by about one unit in its last place.
LAYER_TOLERANCE = {torch.float64: 1e-10, torch.float32: 1e-5, torch.float16: 4e-3, torch.bfloat16: 3e-2}
# Through a whole model differences grow, and activations in half precision are rounded at every layer.
OUTPUT_TOLERANCE = {torch.float64: 1e-8, torch.float32: 1e-3, torch.float16: 5e-2, torch.bfloat16: 2e-1}

# The parameters of a merged base layer, by their names within it; and where those of a site come from.
Merged = Mapping[str, torch.Tensor]
Source = Callable[[Site], Merged]


def base_dtype(layer: BaseTunerLayer) -> torch.dtype:
    """The dtype of the weight, or the parameter, that the adapters were put on."""
    name = layer.parameter_name if isinstance(layer, ParamWrapper) else "weight"
    dtype = getattr(layer.get_base_layer(), name).dtype
    assert isinstance(dtype, torch.dtype)
    return dtype


def unmergeable(site: Site, layer: BaseTunerLayer) -> str | None:
    """Why this adapter cannot be merged exactly, as far as is known without trying, or None."""
    base = layer.get_base_layer()
    if bits := bits_of(base):
        return f"its weight is stored in {bits} bits, and quantising the merged weight anew would round it"
    if isinstance(base, nn.MultiheadAttention):
        return "PEFT adapts the two projections of nn.MultiheadAttention by layers inside each other"
    described = modules_of(base, {}, lambda _: Init("unknown"))[""]
    return METHODS[site.method].merging(described, site.settings)


def merge(site: Site, layer: BaseTunerLayer) -> dict[str, torch.Tensor] | str:
    """The parameters of the base layer that merging changes, merged, in the dtypes they have in the base layer.

    The layer itself is left as it is. Where PEFT cannot merge this adapter into this layer: the reason.
    """
    if site.parameter:
        return {site.parameter: merged_parameter(layer, site.adapter)}
    if reason := unmergeable(site, layer):
        return reason
    copy = _float_copy(layer)
    before = {name: tensor.detach().clone() for name, tensor in copy.get_base_layer().named_parameters()}
    try:
        copy.merge(safe_merge=True, adapter_names=[site.adapter])
    except (NotImplementedError, RuntimeError, ValueError) as error:
        return str(error) or type(error).__name__
    own = dict(layer.get_base_layer().named_parameters())
    merged = {name: tensor.detach() for name, tensor in copy.get_base_layer().named_parameters()}
    if merged.keys() != own.keys():
        return f"merging would give it the parameters {sorted(merged)}, it has {sorted(own)}"
    return {
        name: tensor.to(own[name].dtype) for name, tensor in merged.items() if not torch.equal(tensor, before[name])
    }


def _float_copy(layer: BaseTunerLayer) -> Any:
    """An independent copy of an adapted layer, all in float32 (float64 stays), in evaluation mode."""
    assert isinstance(layer, nn.Module)
    copy: Any = deepcopy(layer)
    if base_dtype(layer) != torch.float64:
        copy.float()
        if "dtype" in vars(copy):  # AdaMSS casts to the dtype that it found its layer in
            copy.dtype = torch.float32
    return copy.eval()


def prove_layer(site: Site, layer: BaseTunerLayer, merged: Merged) -> Proof:
    """An adapted layer on random input, in float32, against the same layer with its merged parameters alone.

    A parameter of a module that takes more than one input, as experts do, is compared with the sum that PEFT makes.
    """
    if site.parameter:
        return _prove_parameter(site, layer, merged)
    adapted = _float_copy(layer)
    plain = adapted.get_base_layer()
    x = _random_input(plain)
    with torch.no_grad():
        expected = adapted(x)
        for name, tensor in merged.items():
            plain.get_parameter(name).copy_(tensor)
        actual = plain(x)
    return Proof(f"`{site.path}`", relative([actual], [expected]), LAYER_TOLERANCE[base_dtype(layer)])


def _prove_parameter(site: Site, layer: Any, merged: Merged) -> Proof:
    with torch.no_grad():
        expected = layer.get_param() + layer.get_delta_weight(site.adapter)
    gap = relative([merged[site.parameter].to(expected.device)], [expected])
    return Proof(f"`{site.full_path}`", gap, LAYER_TOLERANCE[base_dtype(layer)])


def worst_of(proofs: list[Proof]) -> Proof:
    """The proof of a layer that comes closest to its tolerance, or exceeds it most, in the name of all."""
    worst = max(proofs, key=lambda proof: proof.difference / proof.tolerance)
    return Proof(f"{len(proofs)} layers on random input, worst {worst.what}", worst.difference, worst.tolerance)


def _random_input(layer: Any) -> torch.Tensor:
    """An input for a layer: a few vectors, or signals longer than the kernel."""
    generator = torch.Generator().manual_seed(SEED)
    weight = layer.weight
    if isinstance(layer, nn.Embedding):
        return torch.arange(layer.num_embeddings, device=weight.device)
    if isinstance(layer, (nn.Conv1d, nn.Conv2d, nn.Conv3d)):
        spans = [d * (k - 1) + 5 for d, k in zip(layer.dilation, layer.kernel_size, strict=True)]
        shape = [2, layer.in_channels, *spans]
    elif weight.dim() == 1:  # a normalisation
        shape = [8, *weight.shape]
    else:
        shape = [8, layer.in_features if isinstance(layer, nn.Linear) else weight.shape[0]]
    return torch.randn(shape, generator=generator).to(weight)


def relative(actual: list[torch.Tensor], expected: list[torch.Tensor]) -> float:
    """The largest absolute difference over the largest finite value expected; infinite for NaN or other shapes.

    Equal infinities do not differ.
    """
    worst = 0.0
    for a, b in zip(actual, expected, strict=True):
        if a.shape != b.shape:
            return float("inf")
        if not b.numel():
            continue
        a, b = a.double(), b.double()
        gap = torch.where(a == b, 0.0, (a - b).abs()).max().item()
        size = torch.where(b.isfinite(), b.abs(), 0.0).max().item()
        worst = max(worst, float("inf") if gap != gap else gap / size if size else gap)
    return worst


def prove_outputs(model: Adapted, sites: list[Site], merged: Source, inputs: Any) -> Proof:
    """One call of the adapted model against the same call with merged parameters, and no adapter, at these sites.

    Each layer is merged when it runs and as it was afterwards, so one layer's merged parameters are held at a time.
    """
    with evaluating(model), torch.no_grad():
        expected = call(model, inputs)
        with _merged_in(model, sites, merged):
            actual = call(model, inputs)
    dtypes = [base_dtype(layer_of(base_model(model), site)) for site in sites]
    tolerance = max(OUTPUT_TOLERANCE[dtype] for dtype in dtypes)
    return Proof("outputs of the example call", relative(actual, expected), tolerance)


@contextmanager
def _merged_in(model: Adapted, sites: list[Site], merged: Source) -> Iterator[None]:
    """While active, an adapted layer that runs is its base layer with the merged parameters."""
    base = base_model(model)
    own: list[tuple[nn.Module, Any]] = []

    def forward(here: list[Site], layer: BaseTunerLayer, *args: Any, **kwargs: Any) -> Any:
        plain = layer.get_base_layer()
        values = {plain.get_parameter(name): tensor for site in here for name, tensor in merged(site).items()}
        with standing_in(values):
            return plain(*args, **kwargs)

    # The adapters of several parameters of a module lie inside each other: the outermost stands for all.
    at_path: dict[str, list[Site]] = {}
    for site in sites:
        at_path.setdefault(site.path, []).append(site)
    try:
        for path, here in at_path.items():
            layer = layer_at(base, path)
            assert isinstance(layer, nn.Module)
            own.append((layer, layer.__dict__.get("forward")))
            layer.__dict__["forward"] = lambda *args, _at=(here, layer), **kwargs: forward(*_at, *args, **kwargs)
        yield
    finally:
        for module, before in own:
            if before is None:
                module.__dict__.pop("forward")
            else:
                module.__dict__["forward"] = before
