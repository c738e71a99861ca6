"""Modulation of images: FiLM, class-conditional batch norm, adaptive instance and group norm, and squeeze-and-excite.

Each expectation was read from the definition of the roles.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

BATCH, CHANNELS, WIDTH, SIDE, CLASSES, TIME = 3, 5, 16, 6, 9, 12
RolesOf = Callable[..., dict[str, str]]

PLAIN = {
    "stem": "input_embedding",
    "blocks.*.norm": "norm",
    "blocks.*.first": "feedforward_in",
    "blocks.*.second": "feedforward_out residual_output",
    "head": "output_head",
}
MODULATED = PLAIN | {"embed": "conditioning", "blocks.*.make": "modulation"}


class Block(nn.Module):
    """Two convolutions; subclasses say how the conditioning meets them."""

    def __init__(self) -> None:
        super().__init__()
        self.norm: nn.Module = nn.GroupNorm(4, WIDTH)
        self.first, self.second = nn.Conv2d(WIDTH, 24, 3, padding=1), nn.Conv2d(24, WIDTH, 3, padding=1)
        self.make: nn.Module = nn.Linear(TIME, 2 * WIDTH)

    def branch(self, x: Tensor) -> Tensor:
        return self.second(F.silu(self.first(x)))


class Model(nn.Module):
    """Two residual blocks of convolutions, conditioned on a class."""

    def __init__(self, block: type[Block], makes_vectors: bool = True) -> None:
        super().__init__()
        self.stem = nn.Conv2d(CHANNELS, WIDTH, 3, padding=1)
        self.embed = nn.Embedding(CLASSES, TIME) if makes_vectors else nn.Identity()
        self.blocks = nn.ModuleList(block() for _ in range(2))
        self.head = nn.Conv2d(WIDTH, CHANNELS, 3, padding=1)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        x, y = self.stem(x), self.embed(y)
        for block in self.blocks:
            x = block(x, y)
        return self.head(x)


def inputs() -> tuple[Tensor, Tensor]:
    return torch.randn(BATCH, CHANNELS, SIDE, SIDE), torch.randint(0, CLASSES, (BATCH,))


class AdaGN(Block):
    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        scale, shift = self.make(F.silu(y))[..., None, None].chunk(2, dim=1)
        return x + self.branch(F.silu(self.norm(x) * (1 + scale) + shift))


class AdaIN(Block):
    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.InstanceNorm2d(WIDTH, affine=False)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        style = self.make(y).unsqueeze(2).unsqueeze(3)
        gamma, beta = style[:, :WIDTH], style[:, WIDTH:]
        return x + self.branch((1 + gamma) * self.norm(x) + beta)


class FilmBeforeTheNorm(Block):
    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        gamma, beta = self.make(y).view(-1, 2 * WIDTH, 1, 1).split(WIDTH, 1)
        return x + self.branch(self.norm(x * gamma + beta))


class FilmOnConvolution(Block):
    """On what the convolution made, before the activation, as the paper draws it."""

    def __init__(self) -> None:
        super().__init__()
        self.make = nn.Linear(TIME, 2 * 24)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        gamma, beta = self.make(y).chunk(2, dim=-1)
        h = self.first(self.norm(x))
        h = h * gamma[:, :, None, None] + beta[:, :, None, None]
        return x + self.second(F.relu(h))


class ChannelsLast(Block):
    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        scale, shift = self.make(y).chunk(2, dim=-1)
        h = self.norm(x).permute(0, 2, 3, 1)
        h = h * (1 + scale[:, None, None]) + shift[:, None, None]
        return x + self.branch(h.permute(0, 3, 1, 2))


class ByEinsum(Block):
    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        gamma, beta = self.make(y).chunk(2, dim=-1)
        return x + self.branch(torch.einsum("bchw,bc->bchw", self.norm(x), gamma) + beta[..., None, None])


class ByConvolution(Block):
    """The modulator is a convolution over one pixel."""

    def __init__(self) -> None:
        super().__init__()
        self.make = nn.Conv2d(TIME, 2 * WIDTH, 1)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        scale, shift = self.make(y[..., None, None]).chunk(2, dim=1)
        return x + self.branch(torch.addcmul(shift, self.norm(x), scale + 1))


@pytest.mark.parametrize(
    "block", [AdaGN, AdaIN, FilmBeforeTheNorm, FilmOnConvolution, ChannelsLast, ByEinsum, ByConvolution]
)
def test_scale_and_shift_of_channels(roles_of: RolesOf, block: type[Block]) -> None:
    assert roles_of(Model(block), *inputs()) == MODULATED


class TwoLinears(Block):
    """FiLM with a network for the scale and one for the shift."""

    def __init__(self) -> None:
        super().__init__()
        self.make, self.shift = nn.Linear(TIME, WIDTH), nn.Linear(TIME, WIDTH)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        gamma, beta = self.make(y)[..., None, None], self.shift(y)[..., None, None]
        return x + self.branch(self.norm(x) * gamma + beta)


@pytest.mark.parametrize(
    "block",
    [
        TwoLinears,
    ],
)
def test_scale_and_shift_from_two_linears(roles_of: RolesOf, block: type[Block]) -> None:
    assert roles_of(Model(block), *inputs()) == MODULATED | {"blocks.*.shift": "modulation"}


class ConditionalBatchNorm(Block):
    """Rows of a table are the scale and shift of a batch norm (Dumoulin et al., arXiv 1610.07629)."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.make = nn.BatchNorm2d(WIDTH, affine=False), nn.Embedding(CLASSES, 2 * WIDTH)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        gamma, beta = self.make(y).chunk(2, 1)
        return x + self.branch(self.norm(x) * gamma.view(-1, WIDTH, 1, 1) + beta.view(-1, WIDTH, 1, 1))


def test_rows_of_a_table(roles_of: RolesOf) -> None:
    expected = PLAIN | {"blocks.*.make": "modulation"}
    assert roles_of(Model(ConditionalBatchNorm, makes_vectors=False), *inputs()) == expected


class TwoTables(Block):
    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(WIDTH, affine=False)
        self.make, self.shift = nn.Embedding(CLASSES, WIDTH), nn.Embedding(CLASSES, WIDTH)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        gamma, beta = self.make(y)[..., None, None], self.shift(y)[..., None, None]
        return x + self.branch(gamma * self.norm(x) + beta)


def test_rows_of_two_tables(roles_of: RolesOf) -> None:
    expected = PLAIN | {"blocks.*.make": "modulation", "blocks.*.shift": "modulation"}
    assert roles_of(Model(TwoTables, makes_vectors=False), *inputs()) == expected


class Spade(Block):
    """Scale and shift at every pixel, from a map of classes (Park et al., arXiv 1903.07291)."""

    def __init__(self) -> None:
        super().__init__()
        self.make, self.shift = nn.Conv2d(TIME, WIDTH, 3, padding=1), nn.Conv2d(TIME, WIDTH, 3, padding=1)
        self.norm = nn.BatchNorm2d(WIDTH, affine=False)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        seen = F.relu(y.permute(0, 3, 1, 2))
        return x + self.branch(self.norm(x) * (1 + self.make(seen)) + self.shift(seen))


def test_scale_and_shift_of_pixels(roles_of: RolesOf) -> None:
    pixels = torch.randint(0, CLASSES, (BATCH, SIDE, SIDE))
    assert roles_of(Model(Spade), inputs()[0], pixels) == MODULATED | {"blocks.*.shift": "modulation"}


class SqueezeAndExcite(Block):
    """The gate of channels is computed from the channels themselves."""

    def __init__(self) -> None:
        super().__init__()
        self.make = nn.Sequential(nn.Conv2d(WIDTH, 4, 1), nn.ReLU(), nn.Conv2d(4, WIDTH, 1), nn.Sigmoid())

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        h = self.branch(self.norm(x))
        return x + h * self.make(F.adaptive_avg_pool2d(h, 1))


class SqueezeAndExciteOfLinears(SqueezeAndExcite):
    def __init__(self) -> None:
        super().__init__()
        self.make = nn.Sequential(nn.Linear(WIDTH, 4), nn.ReLU(), nn.Linear(4, WIDTH))

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        h = self.branch(self.norm(x))
        return x + h * torch.sigmoid(self.make(h.mean(dim=(2, 3))))[:, :, None, None]


@pytest.mark.parametrize(
    "block",
    [
        SqueezeAndExcite,
        SqueezeAndExciteOfLinears,
    ],
)
def test_squeeze_and_excite_is_no_modulation(roles_of: RolesOf, block: type[Block]) -> None:
    assert roles_of(Model(block, makes_vectors=False), *inputs()) == PLAIN


class TimeAdded(Block):
    """A vector added to the channels, without any scale: the embedding of a plain denoising U-Net."""

    def __init__(self) -> None:
        super().__init__()
        self.make = nn.Linear(TIME, 24)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        h = self.first(self.norm(x)) + self.make(F.silu(y))[:, :, None, None]
        return x + self.second(F.silu(h))


def test_a_vector_added_to_channels_is_no_modulation(roles_of: RolesOf) -> None:
    found = roles_of(Model(TimeAdded), *inputs())
    # Whether a class that is merely added is a content input is left open.
    assert found.pop("embed", "") != "conditioning"
    assert found == PLAIN
