"""Norms written out by hand, and what looks like one.

Each expectation was read from the definition of the roles.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

BATCH, TOKENS, FEATURES, WIDTH, INNER, OUT = 3, 5, 7, 16, 24, 10
RolesOf = Callable[..., dict[str, str]]

PLAIN = {
    "embed": "input_embedding",
    "blocks.*.norm": "norm",
    "blocks.*.up": "feedforward_in",
    "blocks.*.down": "feedforward_out residual_output",
    "norm": "norm",
    "head": "output_head",
}


class Block(nn.Module):
    def __init__(self, norm: nn.Module) -> None:
        super().__init__()
        self.norm, self.up, self.down = norm, nn.Linear(WIDTH, INNER), nn.Linear(INNER, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.down(F.gelu(self.up(self.norm(x))))


class Model(nn.Module):
    """Two blocks and a last norm, all of one kind."""

    def __init__(self, norm: type[nn.Module]) -> None:
        super().__init__()
        self.embed = nn.Linear(FEATURES, WIDTH)
        self.blocks = nn.ModuleList(Block(norm()) for _ in range(2))
        self.norm, self.head = norm(), nn.Linear(WIDTH, OUT)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x)
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x))


def tokens() -> Tensor:
    return torch.randn(BATCH, TOKENS, FEATURES)


class Affine(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(WIDTH)), nn.Parameter(torch.zeros(WIDTH))


class MeanAndVariance(Affine):
    def forward(self, x: Tensor) -> Tensor:
        mean, variance = x.mean(-1, keepdim=True), x.var(-1, keepdim=True, unbiased=False)
        return (x - mean) / torch.sqrt(variance + 1e-5) * self.weight + self.bias


class MeanOfSquares(Affine):
    """OpenAI's first: the variance is the mean of squared differences."""

    def forward(self, x: Tensor) -> Tensor:
        mean = x.mean(-1, keepdim=True)
        variance = (x - mean).pow(2).mean(-1, keepdim=True)
        x = (x - mean) / torch.sqrt(variance + 1e-12)
        return self.weight * x + self.bias


class DifferenceOfMoments(Affine):
    def forward(self, x: Tensor) -> Tensor:
        mean = x.mean(-1, keepdim=True)
        variance = (x * x).mean(-1, keepdim=True) - mean * mean
        return (x - mean) * (variance + 1e-5).rsqrt() * self.weight + self.bias


class BothMoments(Affine):
    def forward(self, x: Tensor) -> Tensor:
        variance, mean = torch.var_mean(x, dim=-1, keepdim=True, correction=0)
        return torch.addcmul(self.bias, (x - mean) * torch.rsqrt(variance + 1e-6), self.weight)


class InFullPrecision(Affine):
    def forward(self, x: Tensor) -> Tensor:
        y = x.float()
        y = y - y.mean(dim=-1, keepdim=True)
        y = y / (y.square().mean(dim=-1, keepdim=True) + 1e-5) ** 0.5
        return (y * self.weight.float() + self.bias.float()).to(x.dtype)


class ChannelsFirst(Affine):
    """ConvNeXt's norm of images, here on tokens that lie last."""

    def forward(self, x: Tensor) -> Tensor:
        x = x.transpose(1, 2)
        mean = x.mean(1, keepdim=True)
        spread = (x - mean).pow(2).mean(1, keepdim=True)
        x = (x - mean) / torch.sqrt(spread + 1e-6)
        return (self.weight[:, None] * x + self.bias[:, None]).transpose(1, 2)


class OfGroups(Affine):
    """A group norm by reshaping."""

    def forward(self, x: Tensor) -> Tensor:
        y = x.view(*x.shape[:-1], 4, -1)
        y = (y - y.mean(-1, keepdim=True)) * torch.rsqrt(y.var(-1, keepdim=True) + 1e-5)
        return y.view_as(x) * self.weight + self.bias


class RootMeanSquare(Affine):
    def forward(self, x: Tensor) -> Tensor:
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6) * self.weight


class ReciprocalRoot(Affine):
    def forward(self, x: Tensor) -> Tensor:
        return x * torch.reciprocal(torch.sqrt(torch.mean(x**2, dim=-1, keepdim=True) + 1e-6)) * (1 + self.weight)


class NegativePower(Affine):
    def forward(self, x: Tensor) -> Tensor:
        return self.weight * (x * torch.pow(x.square().mean(-1, keepdim=True) + 1e-6, -0.5))


class ScaledLength(Affine):
    """Lucidrains' RMSNorm: of length one, times the root of the width."""

    def forward(self, x: Tensor) -> Tensor:
        return F.normalize(x, dim=-1) * WIDTH**0.5 * self.weight


class LengthByNorm(Affine):
    def forward(self, x: Tensor) -> Tensor:
        length = torch.linalg.vector_norm(x, dim=-1, keepdim=True) * WIDTH**-0.5
        return x / length.clamp(min=1e-8) * self.weight


class WithoutParameters(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return F.layer_norm(x, (WIDTH,))


class RootWithoutParameters(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + 1e-6)


class InHalves(nn.LayerNorm):
    """Autocast is off inside, as where norms have to stay in full precision."""

    def __init__(self) -> None:
        super().__init__(WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast("cpu", enabled=False):
            return super().forward(x.float()).type_as(x)


class OverTheBatch(nn.BatchNorm1d):
    def __init__(self) -> None:
        super().__init__(WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.mT).mT


class OverTheBatchWrittenOut(Affine):
    """An inference-time batch norm: the statistics are buffers."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(WIDTH))
        self.register_buffer("variance", torch.ones(WIDTH))

    def forward(self, x: Tensor) -> Tensor:
        return F.batch_norm(x.mT, self.mean, self.variance, self.weight, self.bias).mT


NORMS = [
    *(MeanAndVariance, MeanOfSquares, DifferenceOfMoments, BothMoments, InFullPrecision),
    *(ChannelsFirst, OfGroups, RootMeanSquare, ReciprocalRoot, NegativePower, ScaledLength),
    *(LengthByNorm, WithoutParameters, RootWithoutParameters, InHalves),
    *(OverTheBatch, OverTheBatchWrittenOut),
]


@pytest.mark.parametrize("norm", NORMS)
def test_norms(roles_of: RolesOf, norm: type[nn.Module]) -> None:
    assert roles_of(Model(norm), tokens()) == PLAIN


class ResponseNorm(Affine):
    """Global response normalisation: it compares channels, and adds what it made to its input."""

    def forward(self, x: Tensor) -> Tensor:
        spread = torch.norm(x, p=2, dim=1, keepdim=True)
        share = spread / (spread.mean(dim=-1, keepdim=True) + 1e-6)
        return self.weight * (x * share) + self.bias + x


class Scale(Affine):
    def forward(self, x: Tensor) -> Tensor:
        return x * self.weight + self.bias


class DynamicTanh(Affine):
    """What stands in for a norm, and normalises nothing (Zhu et al., arXiv 2503.10622)."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(0.5 * x) * self.weight + self.bias


@pytest.mark.parametrize("norm", [ResponseNorm, Scale, DynamicTanh])
def test_what_is_no_norm(roles_of: RolesOf, norm: type[nn.Module]) -> None:
    assert roles_of(Model(norm), tokens()) == {path: roles for path, roles in PLAIN.items() if roles != "norm"}


class Standardised(nn.Conv1d):
    """Weight standardisation: the weight is normalised, the stream is not (Qiao et al., arXiv 1903.10520)."""

    def __init__(self) -> None:
        super().__init__(WIDTH, WIDTH, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        mean, variance = self.weight.mean((1, 2), keepdim=True), self.weight.var((1, 2), keepdim=True)
        weight = (self.weight - mean) * torch.rsqrt(variance + 1e-5)
        return F.conv1d(x.mT, weight, self.bias, padding=1).mT


def test_a_normalised_weight_is_no_norm(roles_of: RolesOf) -> None:
    found = roles_of(Model(Standardised), tokens())
    assert "norm" not in found.get("blocks.*.norm", "").split()
