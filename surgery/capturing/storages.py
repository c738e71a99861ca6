"""What the storages of tensors hold, as far as the statements that wrote into them tell."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from math import prod
from typing import Any

import torch
from torch._subclasses.fake_tensor import unset_fake_temporarily
from torch.multiprocessing.reductions import StorageWeakRef

from surgery.graph import Init, InitValue

LARGEST_TOLD_APART = 2**25  # values of a storage whose parts are told apart one by one, in two bytes each


@dataclass(frozen=True, slots=True)
class Made:
    """How values were made: `number` where all of them are one, and the `file:line` of the statement."""

    value: InitValue
    number: float | None
    place: str

    @property
    def init(self) -> Init:
        return Init("zero" if self.number == 0 else self.value, self.place or None)


def merged(parts: Sequence[Made]) -> Made:
    """What values are together that were made one part after the other."""
    last = parts[-1]
    if all(part.value == last.value and part.number == last.number for part in parts):
        return last
    for value in ("random", "loaded"):
        found = [part for part in parts if part.value == value]
        if found:
            return found[-1]
    return Made("unknown", None, last.place)


@dataclass(frozen=True, slots=True)
class _Part:
    """The values of a storage that a tensor shows, or those of them that an index takes."""

    size: tuple[int, ...]
    stride: tuple[int, ...]
    offset: int
    index: Any = None

    def of(self, values: torch.Tensor) -> torch.Tensor:
        return values.as_strided(self.size, self.stride, self.offset)

    def mark(self, values: torch.Tensor, label: int) -> None:
        if self.index is None:
            self.of(values).fill_(label)
        else:
            self.of(values)[self.index] = label


@dataclass(slots=True)
class _Held:
    """What filled a storage last, and what has written into parts of it since; `ref` keeps its address from reuse."""

    ref: StorageWeakRef
    whole: Made
    parts: list[tuple[_Part, Made]] = field(default_factory=list)

    def is_left(self, total: int) -> bool:
        """Whether the parts are too small to hide all of the `total` values that `whole` made."""
        return sum(prod(part.size) for part, _ in self.parts) < total


class Storages:
    """What is known of every storage, by its address. Nothing is kept alive."""

    def __init__(self) -> None:
        self._held: dict[int, _Held] = {}

    def __contains__(self, tensor: torch.Tensor) -> bool:
        storage = _storage(tensor)
        return storage is not None and storage._cdata in self._held

    def write(self, tensor: torch.Tensor, made: Made, index: Any = None) -> None:
        """The values that `tensor` shows, or `tensor[index]`, are now as `made` says."""
        storage = _storage(tensor)
        if storage is None:
            return
        held = self._held.get(storage._cdata)
        if index is None and tensor.numel() * tensor.element_size() >= storage.nbytes():
            self._held[storage._cdata] = _Held(held.ref if held else StorageWeakRef(storage), made)
            return
        if held is None:
            held = self._held[storage._cdata] = _Held(StorageWeakRef(storage), Made("unknown", None, ""))
        held.parts.append((_Part(tuple(tensor.shape), tensor.stride(), int(tensor.storage_offset()), index), made))

    def read(self, tensor: torch.Tensor) -> Made | None:
        """How the values that `tensor` shows were made; None if its storage was never written into."""
        storage = _storage(tensor)
        held = self._held.get(storage._cdata) if storage is not None else None
        if storage is None or held is None:
            return None
        total = storage.nbytes() // tensor.element_size()
        is_whole = tensor.numel() >= total
        made = held.whole if not held.parts else _together(held, tensor, total, is_whole=is_whole)
        # A part of an identity is none, nor is what is put together of several.
        return replace(made, value="unknown") if made.value == "identity" and (held.parts or not is_whole) else made


def _together(held: _Held, tensor: torch.Tensor, total: int, *, is_whole: bool) -> Made:
    """What a tensor shows of a storage of `total` values that several statements wrote into."""
    written = [held.whole, *(made for _, made in held.parts)]
    if held.whole.value == "random" and is_whole and held.is_left(total):
        return merged(written)
    if total <= LARGEST_TOLD_APART:
        shown = _Part(tuple(tensor.shape), tensor.stride(), int(tensor.storage_offset()))
        return merged(_shown(shown, held, total) or written)
    made = merged(written)
    may_be_hidden = made.value != merged(written[1:]).value and not (is_whole and held.is_left(total))
    return replace(made, value="unknown", number=None) if may_be_hidden else made


def _shown(part: _Part, held: _Held, total: int) -> list[Made]:
    """What `part` of a storage of `total` values shows of what was written into it, the last written last."""
    kinds = list(dict.fromkeys([*(made for _, made in reversed(held.parts)), held.whole]))[::-1]
    label = {made: number for number, made in enumerate(kinds)}
    with unset_fake_temporarily(), torch._C.DisableTorchFunction(), torch.no_grad():
        labels = torch.full((total,), label[held.whole], dtype=torch.int16, device="cpu")
        for written, made in held.parts:
            written.mark(labels, label[made])
        left = torch.bincount(part.of(labels).flatten()).nonzero().flatten().tolist()
    return [kinds[number] for number in left]


def _storage(tensor: torch.Tensor) -> torch.UntypedStorage | None:
    """What views of one memory share; a sparse tensor, one that `vmap` wraps, or a lazy module's, has none."""
    try:
        return tensor.untyped_storage()
    except (NotImplementedError, RuntimeError, ValueError):
        return None
