"""The random number generators of a process: read, set, and kept apart."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy
import torch


@dataclass(frozen=True)
class RngState:
    """The states of one process's generators, as tensors and plain numbers that JSON keeps exactly.

    `python`, `numpy`: int64[625] and int64[624], the words of their Mersenne Twisters; the last of Python's is its
    position. `torch`, `cuda`: the uint8 states that torch gives; `cuda` is of the current device.
    """

    tensors: dict[str, torch.Tensor]
    numbers: dict[str, Any]


def read_rng() -> RngState:
    """The present states of Python's, numpy's, torch's and, where there is one, the GPU's generator."""
    version, words, gauss = random.getstate()
    kind, keys, position, has_gauss, cached = numpy.random.get_state(legacy=True)
    tensors = {
        "python": torch.tensor(words, dtype=torch.int64),
        "numpy": torch.tensor(numpy.asarray(keys, dtype="int64")),
        "torch": torch.get_rng_state(),
    }
    if torch.cuda.is_available():
        tensors["cuda"] = torch.cuda.get_rng_state()
    numbers = {"python": [version, gauss], "numpy": [str(kind), int(position), int(has_gauss), float(cached)]}
    return RngState(tensors, numbers)


def write_rng(state: RngState) -> None:
    """Put all generators where `state` was read."""
    version, gauss = state.numbers["python"]
    random.setstate((version, tuple(state.tensors["python"].tolist()), gauss))
    kind, position, has_gauss, cached = state.numbers["numpy"]
    keys = numpy.array(state.tensors["numpy"].tolist(), dtype="uint32")
    numpy.random.set_state((kind, keys, position, has_gauss, cached))
    torch.set_rng_state(state.tensors["torch"])
    if "cuda" in state.tensors and torch.cuda.is_available():
        torch.cuda.set_rng_state(state.tensors["cuda"])


@contextmanager
def undisturbed() -> Iterator[None]:
    """Leave all generators as they were found."""
    state = read_rng()
    try:
        yield
    finally:
        write_rng(state)


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Run on generators of the CPU seeded by `seed` (below 2**63), then put them back. Safe in a forked worker."""
    python, numbers, cpu = random.getstate(), numpy.random.get_state(legacy=True), torch.get_rng_state()
    random.seed(seed)
    numpy.random.seed(seed % 2**32)
    # Not torch.manual_seed: that would also seed the GPU, which a forked worker may not touch.
    torch.default_generator.manual_seed(seed)
    try:
        yield
    finally:
        random.setstate(python)
        numpy.random.set_state(numbers)
        torch.set_rng_state(cpu)


def derived_seed(*parts: int | str) -> int:
    """A seed below 2**63 for a place named by `parts`, independent of those of other places."""
    digest = hashlib.blake2b(repr(parts).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1
