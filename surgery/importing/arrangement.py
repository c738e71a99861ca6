"""How the tensors of a file lie in the places of the plan, without changing a number."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, TypeAlias

from surgery.importing.slots import Slot

Arrangement: TypeAlias = Literal["as it is", "reshaped", "transposed"]

_FACTORS = ("lora_A.weight", "lora_B.weight")


def arrange(shapes: Mapping[Slot, tuple[int, ...]]) -> dict[Slot, Arrangement | None]:
    """For each slot how the stored shape becomes the wanted one, or None where it does not.

    Trailing ones come and go: a linear layer stored as a 1x1 convolution, a column of magnitudes. LoRA's
    factors are transposed if all of the file are and not all fit as they are: one square tensor alone does not tell.
    """
    factors = [slot for slot in shapes if slot.parameter in _FACTORS]
    transposed = (
        bool(factors)
        and all(shapes[slot][::-1] == slot.shape and len(slot.shape) == 2 for slot in factors)
        and not all(_arranged(slot, shapes[slot]) for slot in factors)
    )
    return {
        slot: "transposed" if transposed and slot.parameter in _FACTORS else _arranged(slot, stored)
        for slot, stored in shapes.items()
    }


def _arranged(slot: Slot, stored: tuple[int, ...]) -> Arrangement | None:
    if stored == slot.shape:
        return "as it is"
    if _trimmed(stored) == _trimmed(slot.shape):
        return "reshaped"
    # PEFT keeps a convolution's magnitudes as (1, outputs, 1, 1), LyCORIS as (outputs, 1, 1, 1); one per input,
    # (1, inputs, 1, 1), is another decomposition and does not come here.
    outputs = max(slot.shape, default=1)
    if slot.parameter == "lora_magnitude_vector" and _trimmed(stored) == (outputs,) == _squeezed(slot.shape):
        return "reshaped"
    return None


def _trimmed(shape: tuple[int, ...]) -> tuple[int, ...]:
    while shape and shape[-1] == 1:
        shape = shape[:-1]
    return shape


def _squeezed(shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(size for size in shape if size != 1)
