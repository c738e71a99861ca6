"""Initial values that only one of the two ways of watching can tell: on fake tensors, or for real."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from watched import Build, on_fake_tensors, source_line, watching

import surgery
from surgery.capturing import capture_spec
from surgery.capturing.storages import LARGEST_TOLD_APART
from surgery.graph import Init

SAVED = {"weight": torch.arange(6.0).view(2, 3), "bias": torch.ones(2)}


@pytest.mark.parametrize(
    ("build", "value"),
    [
        (lambda: nn.Parameter(torch.Tensor([0.0, 0.0])), "zero"),
        (lambda: nn.Parameter(torch.FloatTensor([2.0, 2.0])), "constant"),
        (lambda: nn.Parameter(torch.from_numpy(np.zeros(5000))), "zero"),
        (lambda: nn.Parameter(torch.from_numpy(np.arange(5.0))), "unknown"),
        (lambda: nn.Parameter(torch.Tensor(3, 4).zero_()), "zero"),
        (lambda: nn.Parameter(torch.Tensor(3, 4)), "unknown"),
    ],
)
def test_constructors_that_torch_does_not_announce(build: Build, value: str) -> None:
    init = on_fake_tensors(build)
    assert init.value == value
    assert source_line(init.place, Path(__file__))


def test_values_that_stay_uninitialised_are_unknown() -> None:
    assert on_fake_tensors(lambda: nn.Parameter(torch.empty(3))).value == "unknown"
    assert on_fake_tensors(lambda: nn.Parameter(torch.zeros(3).new_empty(3))).value == "unknown"
    assert on_fake_tensors(lambda: nn.Parameter(torch.empty_like(torch.zeros(3)))).value == "unknown"


def test_a_fake_value_written_into_a_known_one_is_not_overlooked() -> None:
    def build() -> nn.Parameter:
        gate = nn.Parameter(torch.tensor([0.0, 0.0]))
        gate.data.copy_(torch.randn(2))
        return gate

    assert on_fake_tensors(build).value == "random"


def test_many_tensors_written_at_once_are_unknown() -> None:
    def build() -> nn.Parameter:
        weights = [nn.Parameter(torch.randn(3)), nn.Parameter(torch.randn(3))]
        with torch.no_grad():
            torch._foreach_mul_(weights, 0.0)
        return weights[1]

    assert on_fake_tensors(build).value == "unknown"


def test_a_known_series_that_is_overwritten() -> None:
    def build() -> nn.Parameter:
        series = nn.Parameter(torch.linspace(0, 1, 5000))
        nn.init.zeros_(series)
        return series

    assert on_fake_tensors(build).value == "zero"


def test_rows_of_a_table_too_large_to_tell_all_its_values_apart() -> None:
    rows = LARGEST_TOLD_APART // 1024 + 1

    def zeroed_by_halves(made: Callable[..., torch.Tensor]) -> nn.Parameter:
        table = nn.Parameter(made(rows, 1024))
        with torch.no_grad():
            table[: rows // 2].zero_()
            table[rows // 2 :].zero_()
        return table

    def build(value: float) -> nn.Parameter:
        table = nn.Parameter(torch.zeros(rows, 1024))
        with torch.no_grad():
            table[0] = value
        return table

    assert on_fake_tensors(lambda: nn.Embedding(rows, 1024, padding_idx=0).weight).value == "random"
    assert on_fake_tensors(lambda: build(0.0)).value == "zero"
    assert on_fake_tensors(lambda: build(1.0)).value == "unknown"
    assert on_fake_tensors(lambda: zeroed_by_halves(torch.randn)).value == "unknown"
    assert on_fake_tensors(lambda: zeroed_by_halves(torch.zeros)).value == "zero"


def test_assigned_values_are_loaded() -> None:
    def build() -> nn.Parameter:
        linear = nn.Linear(3, 2)
        linear.load_state_dict(SAVED, assign=True)
        return linear.weight

    assert on_fake_tensors(build).value == "loaded"


def test_loaded_zeros_are_zero_now() -> None:
    def build() -> nn.Parameter:
        linear = nn.Linear(3, 2)
        linear.load_state_dict({"weight": zeros, "bias": zeros[:, 0]})
        return linear.weight

    zeros = torch.zeros(2, 3)
    assert on_fake_tensors(build).value == "zero"


def test_what_was_made_before_is_unknown_but_for_what_its_values_show() -> None:
    weight, ones = nn.Parameter(torch.randn(3)), nn.Parameter(torch.ones(3))
    with watching(fake=False) as recorder:
        nn.Linear(3, 3)
    assert recorder.of(weight) == Init("unknown")
    assert recorder.of(ones) == Init("constant")


def test_memory_of_temporaries_is_given_back() -> None:
    """A storage is known by its address, which must not be taken again, though nothing keeps its values."""
    with watching(fake=False) as recorder:
        kept = [nn.Parameter(torch.full((1000,), float(number)) * 1.0) for number in range(50)]
        for _ in range(50):
            torch.randn(1000)
        last = nn.Parameter(torch.zeros(1000))
    assert [recorder.of(parameter).value for parameter in kept] == ["zero"] + ["constant"] * 49
    assert recorder.of(last).value == "zero"


def test_a_model_of_torch_alone_shows_the_line_of_its_layer(tmp_path: Path) -> None:
    text = "surg 1\nmodel torch.nn:LayerNorm { normalized_shape = 4 }\ninputs { input = f32[2, 4] }\n"
    (tmp_path / "norm.surg").write_text(text, encoding="utf-8")
    graph = capture_spec(surgery.load(tmp_path / "norm.surg"))
    found = {parameter.name: parameter.init for parameter in graph.modules[""].parameters}
    assert [init.value for init in found.values()] == ["constant", "zero"]
    assert all("torch/nn/modules/normalization.py:" in (init.place or "") for init in found.values())


def test_a_live_model_has_zeros_and_what_is_unknown() -> None:
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.zeros, self.ones = nn.Linear(3, 3), nn.Linear(3, 3)
            nn.init.zeros_(self.zeros.weight)
            nn.init.ones_(self.ones.weight)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.zeros(x) + self.ones(x)

    graph = surgery.capture(Model(), (torch.zeros(2, 3),))
    found = {path: graph.modules[path].parameters[0].init for path in ("zeros", "ones")}
    assert found == {"zeros": Init("zero", "the value it has now"), "ones": Init("unknown")}
