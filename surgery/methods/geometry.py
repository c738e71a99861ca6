"""The sizes of a layer that an adapter's sizes follow from, read from the graph."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from math import prod
from typing import Literal, TypeAlias, cast

from surgery.graph import Module
from surgery.methods.quantised import bits_of, untried

Layer: TypeAlias = Literal["Embedding", "Conv2d", "Conv3d", "Conv1d", "Linear", "Conv1D"]

# In the order in which PEFT asks `isinstance` (lora.layer.dispatch_default): the first that fits decides.
LAYERS: tuple[Layer, ...] = ("Embedding", "Conv2d", "Conv3d", "Conv1d", "Linear", "Conv1D")
_DIMENSIONS: dict[Layer, int] = {
    "Embedding": 2,
    "Conv2d": 4,
    "Conv3d": 5,
    "Conv1d": 3,
    "Linear": 2,
    "Conv1D": 2,
}


@dataclass(frozen=True)
class Geometry:
    """Sizes of an adaptable layer.

    `inputs` and `outputs` are its features or channels (of an embedding: rows and width), `kernel` the sizes
    of a convolution's kernel, `groups` its groups, `has_bias` whether it adds a bias, `bits` how
    many bits each number of a quantised weight takes. A weight is stored
    (outputs, inputs / groups, *kernel), but (inputs, outputs) by Embedding and by transformers' Conv1D.
    """

    layer: Layer
    inputs: int
    outputs: int
    kernel: tuple[int, ...] = ()
    groups: int = 1
    has_bias: bool = False
    bits: int | None = None

    @property
    def is_convolution(self) -> bool:
        return bool(self.kernel)

    @property
    def kernel_size(self) -> int:
        return prod(self.kernel)


def layer_of(module: Module) -> Layer | None:
    """Which of the layers that PEFT adapts this module is, by its class or a base class."""
    return _of_class(module.kind, module.bases).layer


@dataclass(frozen=True)
class _Class:
    """What the classes of a module say: why it is not adapted, which layer it is, the bits of its weight."""

    refusal: str | None
    layer: Layer | None
    bits: int | None


@lru_cache(maxsize=1024)
def _of_class(kind: str, bases: tuple[str, ...]) -> _Class:
    names = (kind, *bases)
    return _Class(untried(names), next((layer for layer in LAYERS if layer in names), None), bits_of(names))


def geometry(module: Module) -> Geometry | str:
    """The sizes of an adaptable layer, or why this module is none."""
    known, weight = _of_class(module.kind, module.bases), module.weight
    if known.refusal:
        return known.refusal
    if known.layer is None:
        return f"{module.kind} is none of the layers that PEFT adapts ({', '.join(LAYERS)})"
    if weight is None:
        return (
            f"its weight is not a plain parameter of this {module.kind} (computed by a parametrization, or quantised)"
        )
    has_bias = module.parameter("bias") is not None
    if known.bits:
        if not {"in_features", "out_features"} <= module.numbers.keys():
            return f"its weight is quantised ({weight.dtype}), and its sizes are not known"
        inputs, outputs = module.numbers["in_features"], module.numbers["out_features"]
        return Geometry(known.layer, inputs, outputs, has_bias=has_bias, bits=known.bits)
    return _geometry(known.layer, weight.shape, weight.dtype, module.numbers.get("groups", 1), has_bias)


def weight_shape(module: Module) -> tuple[int, ...]:
    """The shape of a module's weight as it acts: what is stored of a quantised one is packed. () without one."""
    if _of_class(module.kind, module.bases).bits:
        return module.numbers["out_features"], module.numbers["in_features"]
    return module.weight.shape if module.weight else ()


@lru_cache(maxsize=1024)
def _geometry(layer: Layer, shape: tuple[int, ...], dtype: str, groups: int, has_bias: bool) -> Geometry | str:
    if not is_plain_float(dtype):
        return f"its weight is quantised ({dtype.removeprefix('torch.')})"
    if len(shape) != _DIMENSIONS[layer]:
        return f"its weight has shape {list(shape)}, which is not a {layer}'s"
    if layer in ("Embedding", "Conv1D"):
        return Geometry(layer, *cast("tuple[int, int]", shape), has_bias=has_bias)
    return Geometry(layer, shape[1] * groups, shape[0], shape[2:], groups, has_bias)


def is_plain_float(dtype: str) -> bool:
    return dtype.removeprefix("torch.") in ("float64", "float32", "float16", "bfloat16")
