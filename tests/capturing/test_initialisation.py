"""Initial values of tensors, from watching them being made, against the values that are really there."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn
from watched import Ways

case = Ways(__file__)


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


@pytest.mark.parametrize(("name", "fake"), case.cases())
def test_every_way_of_making_a_parameter(name: str, fake: bool) -> None:
    case.check(name, fake)
