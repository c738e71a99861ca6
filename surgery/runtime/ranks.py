"""Where the rank of an adapter lies in its tensors, and the part of a padded tensor that is the adapter's own.

The factors of LoRA, LoHa and LoKr are multiplied along their rank, so zeros beyond it add exact zeros. PEFT's layers
(`peft/tuners/{lora,loha,lokr}/layer.py`) decide which axis it is.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import torch

_AXES: dict[str, tuple[int, ...]] = {
    "lora_A.weight": (0,),
    "lora_B.weight": (1,),
    "lora_embedding_A": (0,),
    "lora_embedding_B": (1,),
    "hada_w1_a": (1,),
    "hada_w1_b": (0,),
    "hada_w2_a": (1,),
    "hada_w2_b": (0,),
    "lokr_w1_a": (1,),
    "lokr_w1_b": (0,),
    "lokr_w2_a": (1,),
    "lokr_w2_b": (0,),
}
# With the kernel in a tensor of its own, (rank, rank, *kernel), the factors beside it are stored (rank, features).
_KERNELS: dict[str, tuple[str, ...]] = {
    "hada_t1": ("hada_w1_a", "hada_w1_b"),
    "hada_t2": ("hada_w2_a", "hada_w2_b"),
    "lokr_t2": ("lokr_w2_a", "lokr_w2_b"),
}


def rank_axes(names: Collection[str]) -> dict[str, tuple[int, ...]]:
    """The axes of an adapter's tensors that are its rank; `names` are all its tensors on one layer."""
    axes = {name: _AXES.get(name, ()) for name in names}
    for kernel, factors in _KERNELS.items():
        if kernel in axes:
            axes |= {kernel: (0, 1), **dict.fromkeys(factors, (0,))}
    return axes


def shape_at(shape: Sequence[int], axes: tuple[int, ...], rank: int, groups: int) -> tuple[int, ...]:
    """A tensor's shape at another rank. LoRA's B on a convolution with groups holds a rank of each group's share."""
    sizes = list(shape)
    for axis in axes:
        sizes[axis] = rank if axis == 0 else rank // groups
    return tuple(sizes)


def part_at(tensor: torch.Tensor, axes: tuple[int, ...], rank: int, groups: int) -> torch.Tensor:
    """A view of the part of a padded tensor that an adapter of `rank` fills; the rest is zeros.

    LoRA's A on a convolution with groups keeps each group's ranks together (its B reads them so), and comes as
    (groups, rank / groups, ...): the other tensors keep their dimensions.
    """
    for axis in axes:
        if axis == 0 and groups > 1:
            tensor = tensor.unflatten(0, (groups, -1)).narrow(1, 0, rank // groups)
        else:
            tensor = tensor.narrow(axis, 0, rank // groups)
    return tensor
