"""What runs for real while the model is fake: control flow on known integers, at sizes that no memory holds."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode

import surgery
from surgery.capturing.build import NEEDS_VALUES
from surgery.capturing.initialisation import InitRecorder
from surgery.capturing.known import as_fake

WIDTH = 2**20  # a square weight of this width has 4 TB


class Huge(nn.Module):
    """A linear of 4 TB that is called as often as the ids say."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(WIDTH, WIDTH)

    def forward(self, x: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
        lengths = (ids != 0).sum(dim=1)
        for _ in range(int(lengths.max())):
            x = self.linear(x)
        return x[:, : lengths.tolist()[0]]


def meta_huge() -> nn.Module:
    with torch.device("meta"):
        return Huge()


def test_control_flow_on_ids_of_the_example_call() -> None:
    ids = torch.tensor([[5, 3, 0, 0], [1, 2, 4, 0]])
    graph = surgery.capture(meta_huge(), (torch.randn(2, WIDTH), ids))
    assert graph["linear"].calls == 3
    assert graph.nodes[-1].inputs
    assert graph.nodes[graph.nodes[-1].inputs[0]].shape == (2, 2)


def test_the_callers_tensors_are_not_written_to() -> None:
    class Writes(nn.Module):
        def forward(self, ids: torch.Tensor) -> torch.Tensor:
            return ids.add_(1)

    ids = torch.zeros(3, dtype=torch.long)
    surgery.capture(Writes(), (ids,))
    assert not ids.any()


def test_drop_rates_of_a_construction() -> None:
    class Drops(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            rates = [rate.item() for rate in torch.linspace(0, 0.3, 4)]
            self.layers = nn.ModuleList(nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.Dropout(rate)) for rate in rates)

    mode = FakeTensorMode(allow_non_fake_inputs=True)
    recorder = InitRecorder(mode)
    with mode, recorder:
        model = Drops()
    assert [round(layer[1].p, 1) for layer in model.layers] == [0.0, 0.1, 0.2, 0.3]
    assert recorder.of(model.layers[0][0].weight).value == "random"


def test_values_of_features_stay_unknown() -> None:
    class Asks(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x if x.sum() > 0 else -x

    mode = FakeTensorMode(allow_non_fake_inputs=True)
    [x] = as_fake([torch.ones(3)], mode)
    assert isinstance(x, FakeTensor)
    with mode, pytest.raises(NEEDS_VALUES):
        Asks()(x)


def test_a_large_product_of_small_series_is_not_made() -> None:
    class Distances(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            positions = torch.arange(60_000)
            return x + (positions[:, None] - positions[None, :]).abs()  # 29 GB of integers

    graph = surgery.capture(Distances(), (torch.zeros(60_000),))
    assert graph.nodes[graph.nodes[-1].inputs[0]].shape == (60_000, 60_000)


def test_grouped_experts_at_full_size() -> None:
    """Mixtral 8x7B's width: its grouped matrix product takes bfloat16 only where tensors are fake."""
    from transformers import MixtralConfig, MixtralForCausalLM

    settings: dict[str, Any] = {"num_hidden_layers": 2, "vocab_size": 32000}
    with torch.device("meta"):
        model = MixtralForCausalLM(MixtralConfig(**settings))
    graph = surgery.capture(model, (), {"input_ids": torch.randint(0, 32000, (2, 8))})
    assert graph.parameters > 2.9e9
    assert "router" in graph["model.layers.1.mlp.gate"].roles
    assert graph["model.layers.0.self_attn.q_proj"].roles.keys() == {"attention_query"}
