"""Making adapters where their modules are, so that nothing is materialised that the model does not hold itself."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensor

from surgery.capturing.conversion import converting_fake_modules


@contextmanager
def imitating(modules: Iterable[nn.Module]) -> Iterator[None]:
    """Tensors made here are fake where those of the modules are."""
    fake = next((p for module in modules for p in module.parameters() if isinstance(p, FakeTensor)), None)
    if fake is None:
        yield
        return
    with fake.fake_mode, converting_fake_modules():
        yield


@contextmanager
def on_meta(modules: Iterable[nn.Module]) -> Iterator[None]:
    """Tensors made here without a device are on meta if all of the modules are."""
    everywhere = all(parameter.is_meta for module in modules for parameter in module.parameters())
    with torch.device("meta") if everywhere else nullcontext():
        yield
