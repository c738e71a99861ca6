"""A model is after a capture what it was before: modes, tensors, caches, hooks and what its objects hold."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode

import surgery
from surgery.capturing.initialisation import InitRecorder


class Table:
    """Rotations that are computed on first use: no module, no buffer."""

    def __init__(self) -> None:
        self.rows: list[torch.Tensor] = []


class Caches(nn.Module):
    """Keeps what it computed in a list, a dict, an attribute, a buffer and an object, and hooks its layer."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 3)
        self.seen: list[torch.Tensor] = []
        self.kept: dict[str, Any] = {}
        self.table = Table()
        self.register_buffer("last", None)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.layer(x)
        self.seen.append(y)
        self.kept["y"], self.last, self.extra = y, y, y
        self.table.rows.append(y)
        self.layer.register_forward_hook(lambda module, args, made: None)
        return y


def test_what_a_call_leaves_behind_is_taken_back() -> None:
    model = Caches().train()
    weight, state = model.layer.weight, copy.deepcopy(model.state_dict())
    surgery.capture(model, (torch.randn(2, 3),))
    assert (model.seen, model.kept, model.table.rows, model.last) == ([], {}, [], None)
    assert not hasattr(model, "extra")
    assert not model.layer._forward_hooks
    assert model.training
    assert model.layer.training
    assert model.layer.weight is weight
    assert "forward" not in vars(model.layer)
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    assert not isinstance(model(torch.randn(2, 3)), FakeTensor)


def test_a_deep_copy_of_fake_parameters_keeps_their_mode() -> None:
    """A copied mode frees weak references that it never took: the heap is corrupt after that."""
    mode = FakeTensorMode(allow_non_fake_inputs=True)
    with mode, InitRecorder(mode):
        layers = nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), 2)
    assert all(parameter.fake_mode is mode for parameter in layers.parameters())
