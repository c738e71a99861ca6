"""What a method needs of a layer whose weight it multiplies, or whose forward it takes over."""

from __future__ import annotations

from surgery.graph import Module

# Classes whose forward is torch's own; NonDynamicallyQuantizableLinear is the `out_proj` of `nn.MultiheadAttention`.
_TORCHS_OWN = frozenset(("Linear", "NonDynamicallyQuantizableLinear", "Conv2d"))


def taken_over(module: Module, title: str) -> str | None:
    """Why a PEFT layer that computes with the layer's weight, and never calls the layer, computes something else.

    Of a convolution, PEFT takes the first stride and the first padding for all sides, and no dilation.
    """
    if module.kind not in _TORCHS_OWN:
        return f"PEFT's {title} computes with the weight alone, and passes over what {module.kind} makes of it"
    if module.kind != "Conv2d":
        return None
    numbers = module.numbers
    if numbers.get("groups", 1) > 1:
        return f"PEFT's {title} does not adapt convolutions with groups"
    if "kernel_size" not in numbers or "stride" not in numbers:
        return f"PEFT's {title} takes kernel and stride of a convolution for square"
    if numbers.get("dilation") != 1:
        return f"PEFT's {title} drops the dilation of a convolution"
    if "padding" not in numbers:
        return f"PEFT's {title} pads with zeros, the same number on all sides, which the graph does not say of it"
    return None


def starts_as_zeros(module: Module, title: str) -> str | None:
    """Why a method that only multiplies the weight learns nothing where that is zero."""
    if module.weight and module.weight.init.value == "zero":
        return f"its weight starts as zeros, and {title} only multiplies the weight: nothing would be learnt"
    return None
