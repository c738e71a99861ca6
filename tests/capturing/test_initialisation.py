"""Init facts from watching a construction, against the values that a real construction gives."""

from __future__ import annotations

import copy
import inspect
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from first_values import agrees
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

import surgery
from surgery.capturing import capture_spec
from surgery.capturing.initialisation import InitRecorder
from surgery.capturing.storages import LARGEST_TOLD_APART
from surgery.graph import Init

Build = Callable[[], nn.Parameter]
CASES: dict[str, tuple[str, Build]] = {}
FOR_REAL: set[str] = set()  # torch cannot move, cast or materialise modules of fake tensors; they are built for real
SAVED = {"weight": torch.arange(6.0).view(2, 3), "bias": torch.ones(2)}


def case(value: str, *, fake: bool = True) -> Callable[[Build], Build]:
    """A way of making a parameter, what it makes, and the comment `# decides` at the line that does."""

    def register(build: Build) -> Build:
        CASES[build.__name__] = (value, build)
        FOR_REAL.update(() if fake else (build.__name__,))
        return build

    return register


@contextmanager
def watching(*, fake: bool) -> Iterator[InitRecorder]:
    mode = FakeTensorMode(allow_non_fake_inputs=True)
    recorder = InitRecorder(mode if fake else None)
    if fake:
        with mode, recorder:
            yield recorder
    else:
        with recorder:
            yield recorder


def source_line(place: str | None) -> str:
    file, _, line = (place or "").rpartition(":")
    assert file == Path(__file__).name or file.endswith("/" + Path(__file__).name), place
    return Path(__file__).read_text(encoding="utf-8").splitlines()[int(line) - 1]


# --- functions that make tensors ----------------------------------------------------------


@case("zero")
def zeros() -> nn.Parameter:
    return nn.Parameter(torch.zeros(3))  # decides


@case("constant")
def ones() -> nn.Parameter:
    return nn.Parameter(torch.ones(3))  # decides


@case("constant")
def full() -> nn.Parameter:
    return nn.Parameter(torch.full((3,), 0.1))  # decides


@case("zero")
def full_of_zero() -> nn.Parameter:
    return nn.Parameter(torch.full(size=(3,), fill_value=0.0))  # decides


@case("random")
def randn() -> nn.Parameter:
    return nn.Parameter(torch.randn(3, 3))  # decides


@case("identity")
def eye() -> nn.Parameter:
    return nn.Parameter(torch.eye(3))  # decides


@case("zero")
def new_zeros() -> nn.Parameter:
    other = torch.randn(3)
    return nn.Parameter(other.new_zeros(3))  # decides


@case("zero")
def zeros_like() -> nn.Parameter:
    other = torch.randn(3)
    return nn.Parameter(torch.zeros_like(other))  # decides


@case("constant")
def full_like() -> nn.Parameter:
    return nn.Parameter(torch.full_like(torch.zeros(3), 2))  # decides


@case("random")
def rand_like() -> nn.Parameter:
    return nn.Parameter(torch.rand_like(torch.zeros(3)))  # decides


@case("unknown")
def a_series() -> nn.Parameter:
    return nn.Parameter(torch.log(torch.arange(1, 4).float()))  # decides


# --- numbers that exist outside of torch ---------------------------------------------------


@case("zero")
def zeros_in_a_list() -> nn.Parameter:
    return nn.Parameter(torch.tensor([0.0, 0.0]))  # decides


@case("constant")
def ones_in_a_list() -> nn.Parameter:
    return nn.Parameter(torch.tensor([1.0, 1.0]))  # decides


@case("zero")
def many_zeros_in_a_list() -> nn.Parameter:
    return nn.Parameter(torch.tensor([0.0] * 5000))  # decides


@case("unknown")
def many_numbers_in_a_list() -> nn.Parameter:
    return nn.Parameter(torch.tensor([0.0, 1.0] * 2500))  # decides


@case("constant")
def one_number() -> nn.Parameter:
    return nn.Parameter(torch.tensor(math.log(1 / 0.07)))  # decides


@case("zero")
def zeros_of_numpy() -> nn.Parameter:
    return nn.Parameter(torch.as_tensor(np.zeros((40, 50), dtype=np.float32)))  # decides


@case("identity")
def identity_in_a_list() -> nn.Parameter:
    return nn.Parameter(torch.tensor([[1.0, 0.0], [0.0, 1.0]]))  # decides


# --- fills in place ------------------------------------------------------------------------


@case("constant")
def empty_then_filled() -> nn.Parameter:
    return nn.Parameter(torch.empty(3).fill_(0.5))  # decides


@case("zero")
def data_zeroed() -> nn.Parameter:
    weight = nn.Parameter(torch.randn(3, 3))
    weight.data.zero_()  # decides
    return weight


@case("random")
def drawn_over_zeros() -> nn.Parameter:
    weight = nn.Parameter(torch.zeros(3, 3))
    weight.data.normal_()  # decides
    return weight


@case("zero")
def times_zero() -> nn.Parameter:
    weight = nn.Parameter(torch.randn(3, 3))
    with torch.no_grad():
        weight.mul_(0)  # decides
    return weight


@case("zero")
def data_times_zero() -> nn.Parameter:
    linear = nn.Linear(3, 3)
    linear.weight.data *= 0.0  # decides
    return linear.weight


@case("zero")
def copied_from_zeros() -> nn.Parameter:
    weight, source = nn.Parameter(torch.randn(3)), torch.zeros(3)
    with torch.no_grad():
        weight.copy_(source)  # decides
    return weight


@case("constant")
def masked_to_the_same() -> nn.Parameter:
    weight = nn.Parameter(torch.ones(3))  # decides
    with torch.no_grad():
        weight.clamp_(min=0.5)
    return weight


@case("zero")
def truncated_draw_then_zeroed() -> nn.Parameter:
    weight = nn.Parameter(torch.empty(3, 3))
    nn.init.trunc_normal_(weight, std=0.02)
    nn.init.constant_(weight, 0.0)  # decides
    return weight


@case("zero")
def no_spread() -> nn.Parameter:
    weight = nn.Parameter(torch.ones(3, 3))
    nn.init.normal_(weight, std=0.0)  # decides
    return weight


@case("zero")
def no_gain() -> nn.Parameter:
    weight = nn.Parameter(torch.ones(3, 3))
    nn.init.xavier_uniform_(weight, gain=0.0)  # decides
    return weight


# --- computed ------------------------------------------------------------------------------


@case("zero")
def zeros_times_a_number() -> nn.Parameter:
    return nn.Parameter(torch.zeros(3) * 7)  # decides


@case("constant")
def zeros_and_a_number() -> nn.Parameter:
    return nn.Parameter(torch.zeros(3) + 7)  # decides


@case("constant")
def layer_scale() -> nn.Parameter:
    return nn.Parameter(1e-5 * torch.ones(3))  # decides


@case("zero")
def log_of_ones() -> nn.Parameter:
    return nn.Parameter(torch.log(torch.ones(3)))  # decides


@case("random")
def scaled_draw() -> nn.Parameter:
    return nn.Parameter(torch.randn(3, 3) / 3**0.5)  # decides


@case("zero")
def draw_times_zero() -> nn.Parameter:
    return nn.Parameter(torch.randn(3, 3) * 0)  # decides


@case("random")
def norm_of_a_draw() -> nn.Parameter:
    return nn.Parameter(torch.randn(3, 3).norm(dim=1))  # decides


@case("random")
def zeros_beside_a_draw() -> nn.Parameter:
    drawn = torch.randn(3)  # decides
    return nn.Parameter(torch.cat([torch.zeros(3), drawn]))


@case("zero")
def zeros_beside_zeros() -> nn.Parameter:
    return nn.Parameter(torch.cat([torch.zeros(2), torch.zeros(3)]))  # decides


@case("unknown")
def zeros_beside_ones() -> nn.Parameter:
    return nn.Parameter(torch.cat([torch.zeros(2), torch.ones(3)]))  # decides


@case("zero")
def padded_zeros() -> nn.Parameter:
    return nn.Parameter(nn.functional.pad(torch.zeros(3), (0, 2)))  # decides


@case("constant")
def clone_of_another() -> nn.Parameter:
    other = nn.Parameter(torch.ones(3))  # decides
    return nn.Parameter(other.detach().clone())


@case("zero")
def cast() -> nn.Parameter:
    weight = torch.zeros(3)  # decides
    return nn.Parameter(weight.to(torch.bfloat16))


# --- parts ---------------------------------------------------------------------------------


@case("random")
def half_zeroed() -> nn.Parameter:
    weight = nn.Parameter(torch.randn(4))  # decides
    with torch.no_grad():
        weight[:2] = 0
    return weight


@case("unknown")
def half_of_ones_zeroed() -> nn.Parameter:
    weight = nn.Parameter(torch.ones(4))
    with torch.no_grad():
        weight[:2] = 0  # decides
    return weight


@case("zero")
def zeroed_slice_by_slice() -> nn.Parameter:
    weight = nn.Parameter(torch.randn(4, 6))
    with torch.no_grad():
        weight[:, :2] = 0
        weight[:, 2:].fill_(0.0)  # decides
    return weight


@case("zero")
def zeroed_row_by_row() -> nn.Parameter:
    weight = nn.Parameter(torch.empty(4, 6))
    for row in range(4):
        nn.init.zeros_(weight[row])  # decides
    return weight


@case("zero")
def zeroed_chunk_by_chunk() -> nn.Parameter:
    weight = nn.Parameter(torch.randn(6, 4))
    for part in weight.chunk(3):
        nn.init.zeros_(part)  # decides
    return weight


@case("random")
def drawn_chunk_by_chunk() -> nn.Parameter:
    weight = nn.Parameter(torch.empty(6, 4))
    for part in weight.data.chunk(3):
        nn.init.xavier_uniform_(part)  # decides
    return weight


@case("zero")
def zeroed_by_a_list_and_a_mask() -> nn.Parameter:
    weight = nn.Parameter(torch.ones(3, 2))
    with torch.no_grad():
        weight[[0, 2]] = 0.0
        weight[torch.tensor([False, True, False])] = 0.0  # decides
    return weight


@case("zero")
def part_overwritten_twice() -> nn.Parameter:
    weight = nn.Parameter(torch.zeros(4))
    nn.init.normal_(weight[1:3])
    nn.init.zeros_(weight[1:3])  # decides
    return weight


@case("zero")
def whole_after_a_part() -> nn.Parameter:
    weight = nn.Parameter(torch.empty(4))
    nn.init.normal_(weight[1:3])
    nn.init.zeros_(weight)  # decides
    return weight


@case("zero")
def looked_at_in_views() -> nn.Parameter:
    weight = nn.Parameter(torch.zeros(4))  # decides
    weight[:2].sum()
    weight.data.view(2, 2).t()
    return weight


@case("zero")
def part_of_a_larger_tensor() -> nn.Parameter:
    both = torch.randn(4, 3)
    both[2:] = 0  # decides
    return nn.Parameter(both[2:])


@case("zero")
def zeroed_part_of_a_larger_draw() -> nn.Parameter:
    both = torch.randn(4, 3)
    both[2:].zero_()  # decides
    return nn.Parameter(both[2:])


@case("unknown")
def two_identities() -> nn.Parameter:
    weight = nn.Parameter(torch.empty(6, 3))
    nn.init.eye_(weight.data[:3])
    nn.init.eye_(weight.data[3:])  # decides
    return weight


@case("unknown")
def part_of_an_identity() -> nn.Parameter:
    return nn.Parameter(torch.eye(4)[2:])  # decides


@case("zero")
def set_to_another() -> nn.Parameter:
    weight = nn.Parameter(torch.randn(3))
    zeros = torch.zeros(3)  # decides
    with torch.no_grad():
        weight.set_(zeros)
    return weight


@case("random")
def padding_row() -> nn.Parameter:
    return nn.Embedding(5, 3, padding_idx=0).weight  # decides


@case("unknown")
def diagonal_filled() -> nn.Parameter:
    weight = nn.Parameter(torch.zeros(3, 4))
    weight.data.fill_diagonal_(2)  # decides
    return weight


# --- torch.nn.init -------------------------------------------------------------------------

INITIALISERS: dict[str, tuple[str, Callable[[torch.Tensor], Any]]] = {
    "uniform_": ("random", nn.init.uniform_),
    "normal_": ("random", lambda w: nn.init.normal_(w, std=0.02)),
    "trunc_normal_": ("random", lambda w: nn.init.trunc_normal_(w, std=0.02)),
    "trunc_normal_ far from its mean": ("random", lambda w: nn.init.trunc_normal_(w, a=-0.1, b=0.1)),
    "constant_": ("constant", lambda w: nn.init.constant_(w, 0.5)),
    "constant_ zero": ("zero", lambda w: nn.init.constant_(w, 0)),
    "ones_": ("constant", nn.init.ones_),
    "zeros_": ("zero", nn.init.zeros_),
    "eye_": ("identity", lambda w: nn.init.eye_(w[..., 0])),
    "dirac_": ("identity", nn.init.dirac_),
    "xavier_uniform_": ("random", nn.init.xavier_uniform_),
    "xavier_normal_": ("random", nn.init.xavier_normal_),
    "kaiming_uniform_": ("random", nn.init.kaiming_uniform_),
    "kaiming_normal_": ("random", nn.init.kaiming_normal_),
    "orthogonal_": ("random", nn.init.orthogonal_),
    "sparse_": ("random", lambda w: nn.init.sparse_(w[..., 0], sparsity=0.3)),
}


@pytest.mark.parametrize("fake", [True, False])
@pytest.mark.parametrize("name", INITIALISERS)
def test_functions_of_torch_init(name: str, fake: bool) -> None:
    value, initialise = INITIALISERS[name]
    width = 1 if name in ("eye_", "sparse_") else 3
    with watching(fake=fake) as recorder:
        weight = nn.Parameter(torch.zeros(8, 5, width))
        initialise(weight)
        line = inspect.currentframe().f_lineno - 1  # type: ignore[union-attr]
    init = recorder.of(weight[..., 0]) if width == 1 else recorder.of(weight)
    assert init.value == value
    if initialise in vars(nn.init).values():
        assert init.place is not None
        assert init.place.endswith(f"test_initialisation.py:{line}")


def test_every_function_of_torch_init_is_covered() -> None:
    public = {name for name in nn.init.__all__ if name.endswith("_")}
    assert public == {name.partition(" ")[0] for name in INITIALISERS}


# --- modules -------------------------------------------------------------------------------


@case("zero")
def applied_by_a_parent() -> nn.Parameter:
    def initialise(module: nn.Module) -> None:
        if isinstance(module, nn.Linear):
            nn.init.zeros_(module.weight)  # decides

    return nn.Sequential(nn.Sequential(nn.Linear(3, 3)), nn.ReLU()).apply(initialise)[0][0].weight


@case("zero")
def zeroed_by_a_function_of_its_own() -> nn.Parameter:
    def zero_module(module: nn.Module) -> nn.Module:
        for parameter in module.parameters():
            parameter.detach().zero_()  # decides
        return module

    return zero_module(nn.Conv1d(3, 3, 1)).weight


@case("zero")
def zeroed_by_an_initialiser_of_a_library() -> nn.Parameter:
    """A function of torch's name and meaning belongs to the line that asks for it."""

    def zeros_(tensor: torch.Tensor) -> torch.Tensor:
        return nn.init.zeros_(tensor)

    linear = nn.Linear(3, 3)
    zeros_(linear.weight)  # decides
    return linear.weight


@case("zero")
def bias_of_torch_attention() -> nn.Parameter:
    return nn.MultiheadAttention(4, 2).in_proj_bias  # decides


@case("zero")
def reassigned() -> nn.Parameter:
    linear = nn.Linear(3, 3)
    linear.weight = nn.Parameter(torch.zeros(3, 3))  # decides
    return linear.weight


@case("zero")
def data_reassigned() -> nn.Parameter:
    linear = nn.Linear(3, 3)
    linear.weight.data = torch.zeros(3, 3)  # decides
    return linear.weight


@case("random")
def tied_after_it_was_zeroed() -> nn.Parameter:
    table, head = nn.Embedding(5, 3), nn.Linear(3, 5)  # decides
    nn.init.zeros_(head.weight)
    head.weight = table.weight
    return head.weight


@case("zero")
def tied_then_zeroed() -> nn.Parameter:
    table, head = nn.Embedding(5, 3), nn.Linear(3, 5)
    head.weight = table.weight
    nn.init.zeros_(table.weight)  # decides
    return head.weight


@case("zero")
def deep_copy() -> nn.Parameter:
    linear = nn.Linear(3, 3)
    nn.init.zeros_(linear.weight)  # decides
    return copy.deepcopy(linear).weight


@case("zero")
def bias_of_a_copied_layer() -> nn.Parameter:
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)  # decides
    return nn.TransformerEncoder(layer, 2).layers[1].norm1.bias


@case("random")
def magnitude_of_weight_norm() -> nn.Parameter:
    linear = nn.utils.parametrizations.weight_norm(nn.Linear(3, 3))  # decides
    return linear.parametrizations.weight.original0


@case("zero")
def direction_of_weight_norm() -> nn.Parameter:
    linear = nn.Linear(3, 3)
    nn.init.zeros_(linear.weight)  # decides
    return nn.utils.parametrizations.weight_norm(linear).parametrizations.weight.original1


@case("zero", fake=False)
def on_meta_then_made() -> nn.Parameter:
    linear = nn.Linear(3, 3, device="meta").to_empty(device="cpu")
    nn.init.zeros_(linear.weight)  # decides
    return linear.weight


@case("zero", fake=False)
def under_meta_as_default() -> nn.Parameter:
    with torch.device("meta"):
        linear = nn.Linear(3, 3)
    linear.to_empty(device="cpu")
    nn.init.zeros_(linear.weight)  # decides
    return linear.weight


@case("zero", fake=False)
def left_out_then_zeroed() -> nn.Parameter:
    linear = nn.utils.skip_init(nn.Linear, 3, 3)
    nn.init.zeros_(linear.weight)  # decides
    return linear.weight


@case("random", fake=False)
def lazy() -> nn.Parameter:
    linear = nn.LazyLinear(3)
    linear(torch.zeros(2, 4))  # decides
    return linear.weight


@case("zero", fake=False)
def lazy_then_zeroed() -> nn.Parameter:
    linear = nn.LazyLinear(3)
    linear(torch.zeros(2, 4))
    nn.init.zeros_(linear.weight)  # decides
    return linear.weight


@case("loaded")
def state_dict() -> nn.Parameter:
    linear = nn.Linear(3, 2)
    linear.load_state_dict(SAVED)  # decides
    return linear.weight


@case("loaded")
def state_dict_of_ones() -> nn.Parameter:
    linear = nn.Linear(3, 2)
    linear.load_state_dict(SAVED)  # decides
    return linear.bias


@case("zero")
def state_dict_of_a_model_made_here() -> nn.Parameter:
    first, second = nn.Linear(3, 3), nn.Linear(3, 3)
    nn.init.zeros_(first.weight)
    second.load_state_dict(first.state_dict())  # decides
    return second.weight


@case("random", fake=False)
def moved_and_cast() -> nn.Parameter:
    return nn.Linear(3, 3).to("cpu", torch.float64).weight  # decides


@pytest.mark.parametrize(
    ("name", "fake"), [(name, fake) for name in CASES for fake in (True, False) if not (fake and name in FOR_REAL)]
)
def test_every_way_of_making_a_parameter(name: str, fake: bool) -> None:
    value, build = CASES[name]
    torch.manual_seed(0)
    with watching(fake=fake) as recorder:
        parameter = build()
    init = recorder.of(parameter)
    assert init.value == value
    assert agrees(value, build())
    assert source_line(init.place).endswith("# decides"), init


# --- what needs one of the two ways of watching --------------------------------------------


def on_fake_tensors(build: Build) -> Init:
    with watching(fake=True) as recorder:
        parameter = build()
    return recorder.of(parameter)


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
    assert source_line(init.place)


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
