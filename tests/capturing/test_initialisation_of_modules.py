"""Initial values by `torch.nn.init` and by modules: applied, copied, tied, loaded, moved, made lazily."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from watched import Ways, watching

case = Ways(__file__)
SAVED = {"weight": torch.arange(6.0).view(2, 3), "bias": torch.ones(2)}


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
        assert init.place.endswith(f"test_initialisation_of_modules.py:{line}")


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


@pytest.mark.parametrize(("name", "fake"), case.cases())
def test_every_way_of_making_a_parameter(name: str, fake: bool) -> None:
    case.check(name, fake)
