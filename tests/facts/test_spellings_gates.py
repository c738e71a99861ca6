"""Parts of modulation: a scale, a shift or a gate alone, through any activation; and what is none.

Each expectation was read from the definition of the roles.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

BATCH, TOKENS, FEATURES, WIDTH, INNER, TIME, OUT = 3, 5, 7, 16, 24, 12, 10
RolesOf = Callable[..., dict[str, str]]

ENDS = {"embed": "input_embedding", "norm": "norm", "head": "output_head"}
BRANCH = {"blocks.*.up": "feedforward_in", "blocks.*.down": "feedforward_out residual_output"}
TIMES = {"time.0": "conditioning", "time.2": "conditioning"}
PLAIN = ENDS | BRANCH | {"blocks.*.norm": "norm"}
MODULATED = PLAIN | TIMES | {"blocks.*.make": "modulation"}


class Block(nn.Module):
    """A norm, a modulator of the conditioning and a feed-forward branch; subclasses say how they meet."""

    parts = 3

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(WIDTH, elementwise_affine=False)
        self.make: nn.Module = nn.Linear(TIME, self.parts * WIDTH)
        self.up, self.down = nn.Linear(WIDTH, INNER), nn.Linear(INNER, WIDTH)

    def branch(self, x: Tensor) -> Tensor:
        return self.down(F.gelu(self.up(x)))


class Model(nn.Module):
    """Two blocks between an embedding and a head; the time comes as sines through two linears."""

    def __init__(self, block: type[nn.Module]) -> None:
        super().__init__()
        self.embed = nn.Linear(FEATURES, WIDTH)
        self.time = nn.Sequential(nn.Linear(TIME, TIME), nn.SiLU(), nn.Linear(TIME, TIME))
        self.blocks = nn.ModuleList(block() for _ in range(2))
        self.norm, self.head = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, OUT)

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        x, t = self.embed(x), self.time(waves(t))
        for block in self.blocks:
            x = block(x, t)
        return self.head(self.norm(x))


def waves(t: Tensor) -> Tensor:
    angles = t[..., None] * torch.exp(-torch.arange(TIME // 2) / 3)
    return torch.cat([angles.sin(), angles.cos()], dim=-1)


def inputs() -> tuple[Tensor, Tensor]:
    return torch.randn(BATCH, TOKENS, FEATURES), torch.rand(BATCH)


class ScaleOnly(Block):
    parts = 1

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        return x + self.branch(self.norm(x) * (1 + self.make(t)[:, None]))


class ScaleByExponential(Block):
    parts = 1

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        return x + self.branch(self.norm(x) * torch.exp(self.make(t))[:, None])


class DividedBy(Block):
    parts = 1

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        return x + self.branch(self.norm(x) / F.softplus(self.make(t))[:, None])


class GateOnly(Block):
    parts = 1

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        return x + self.branch(self.norm(x)) * self.make(t)[:, None]


class SigmoidGate(GateOnly):
    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        return x + self.branch(self.norm(x)) * torch.sigmoid(self.make(t))[:, None]


class TanhGate(GateOnly):
    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        return x + self.branch(self.norm(x)) * self.make(t).tanh()[:, None]


class SoftplusGate(GateOnly):
    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        return x + self.branch(self.norm(x)) * F.softplus(self.make(t))[:, None]


class DoubledSigmoidGate(GateOnly):
    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        return x + self.branch(self.norm(x)) * (2 * self.make(t).sigmoid() - 1)[:, None]


class ReluGate(GateOnly):
    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        return x + self.branch(self.norm(x)) * F.relu(self.make(t))[:, None]


class HardSigmoidGate(GateOnly):
    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        return x + self.branch(self.norm(x)) * F.hardsigmoid(self.make(t))[:, None]


class ClampedGate(GateOnly):
    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        return x + self.branch(self.norm(x)) * self.make(t).clamp(0, 1)[:, None]


class ScalarGate(Block):
    """One number for a whole sample."""

    def __init__(self) -> None:
        super().__init__()
        self.make = nn.Linear(TIME, 1)

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        return x + self.make(t)[..., None] * self.branch(self.norm(x))


class BeforeTheNorm(Block):
    """FiLM on the stream itself, which then is normalised."""

    parts = 2

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        scale, shift = self.make(t)[:, None].chunk(2, dim=-1)
        return x + self.branch(self.norm(x * (1 + scale) + shift))


class OnTheInnerLayer(Block):
    """Scales the hidden units of the branch."""

    def __init__(self) -> None:
        super().__init__()
        self.make = nn.Linear(TIME, INNER)

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        return x + self.down(F.gelu(self.up(self.norm(x))) * self.make(t)[:, None])


class ScalesTheResidual(Block):
    """What is scaled is the stream and not the branch."""

    parts = 1

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        return x * (1 + self.make(t)[:, None]) + self.branch(self.norm(x))


PARTS = [
    *(ScaleOnly, ScaleByExponential, DividedBy, GateOnly, SigmoidGate, TanhGate, SoftplusGate, DoubledSigmoidGate),
    *(ReluGate, HardSigmoidGate, ClampedGate, ScalarGate, BeforeTheNorm, OnTheInnerLayer, ScalesTheResidual),
]


@pytest.mark.parametrize("block", PARTS)
def test_a_part_is_enough(roles_of: RolesOf, block: type[Block]) -> None:
    assert roles_of(Model(block), *inputs()) == MODULATED


class ShiftBesideScale(Block):
    """The shift and the scale come from two linears of their own."""

    parts = 1

    def __init__(self) -> None:
        super().__init__()
        self.shift = nn.Linear(TIME, WIDTH)

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        return x + self.branch(self.norm(x) * (1 + self.make(t)[:, None]) + self.shift(t)[:, None])


class ShiftAndGate(ShiftBesideScale):
    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        t = F.silu(t)[:, None]
        return x + self.make(t) * self.branch(self.norm(x) + self.shift(t))


@pytest.mark.parametrize("block", [ShiftBesideScale, ShiftAndGate])
def test_a_shift_counts_where_the_conditioning_scales_elsewhere(roles_of: RolesOf, block: type[Block]) -> None:
    assert roles_of(Model(block), *inputs()) == MODULATED | {"blocks.*.shift": "modulation"}


# --- what is none -----------------------------------------------------------------------------


class ShiftOnly(Block):
    parts = 1

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        return x + self.branch(self.norm(x) + self.make(t)[:, None])


class AddedToTheStream(Block):
    parts = 1

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        return x + self.branch(self.norm(x + self.make(t)[:, None]))


class AlsoAToken(Block):
    """The same vector scales the stream and is added to it unscaled, as a part of it."""

    parts = 1

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        made = self.make(t)[:, None]
        return torch.cat([made, x[:, 1:]], dim=1) + self.branch(self.norm(x) * made)


@pytest.mark.parametrize("block", [ShiftOnly, AddedToTheStream, AlsoAToken])
def test_a_vector_that_does_something_else(roles_of: RolesOf, block: type[Block]) -> None:
    assert roles_of(Model(block), *inputs()) == PLAIN
