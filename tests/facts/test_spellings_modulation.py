"""Modulation, in the spellings that people write it in: the roles follow from the values, not from the words.

Each block is `x + gate * branch(norm(x) * (1 + scale) + shift)`, in other words. Each expectation was read from the
definition of the roles.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from einops import rearrange
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


class Chunk(Block):
    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        scale, shift, gate = self.make(F.silu(t)).chunk(3, dim=-1)
        return x + gate.unsqueeze(1) * self.branch(self.norm(x) * (1 + scale.unsqueeze(1)) + shift.unsqueeze(1))


class Split(Block):
    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        scale, shift, gate = torch.split(self.make(F.silu(t))[:, None], [WIDTH, WIDTH, WIDTH], dim=2)
        return x + gate * self.branch((scale + 1) * self.norm(x) + shift)


class Unbind(Block):
    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        scale, shift, gate = self.make(F.silu(t)).view(-1, 3, 1, WIDTH).unbind(dim=1)
        return torch.add(x, torch.mul(self.branch(torch.add(torch.mul(self.norm(x), 1.0 + scale), shift)), gate))


class Slices(Block):
    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        m = self.make(F.silu(t))
        scale, shift, gate = m[:, :WIDTH], m[:, WIDTH : 2 * WIDTH], m[:, 2 * WIDTH :]
        return x + self.branch(self.norm(x) * (1 + scale[:, None, :]) + shift[:, None, :]) * gate[:, None, :]


class Rearranged(Block):
    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        scale, shift, gate = rearrange(self.make(F.silu(t)), "b (parts d) -> parts b 1 d", parts=3)
        return x + gate * self.branch(self.norm(x) * (1 + scale) + shift)


class ReshapedAndIndexed(Block):
    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        m = self.make(F.silu(t)).reshape(t.shape[0], 3, WIDTH)
        h = self.norm(x) * (1 + m[:, 0:1]) + m[:, 1:2]
        return x + m[:, 2].unsqueeze(-2).expand_as(x) * self.branch(h)


class Addcmul(Block):
    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        scale, shift, gate = self.make(F.silu(t))[:, None].chunk(3, dim=-1)
        return torch.addcmul(x, gate, self.branch(torch.addcmul(shift, 1 + scale, self.norm(x))))


class AddcmulOfTheStream(Block):
    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        scale, shift, gate = self.make(F.silu(t))[:, None].chunk(3, dim=-1)
        h = self.norm(x)
        return torch.addcmul(x, self.branch(torch.addcmul(h, h, scale) + shift), gate)


class Lerp(Block):
    """`lerp(x, y, gate)` is `x + gate * (y - x)`."""

    parts = 1

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        return torch.lerp(x, self.branch(self.norm(x)), self.make(F.silu(t)).sigmoid()[:, None])


class LerpWrittenOut(Block):
    parts = 1

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        gate = self.make(F.silu(t)).sigmoid()[:, None]
        return (1 - gate) * x + gate * self.branch(self.norm(x))


class OnTopOfItself(Block):
    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        scale, shift, gate = self.make(F.silu(t))[:, None].chunk(3, dim=-1)
        h = self.norm(x)
        h = h + h * scale + shift
        return x + gate * self.branch(h)


class Methods(Block):
    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        scale, shift, gate = self.make(F.silu(t))[:, None].tensor_split(3, -1)
        return self.branch(self.norm(x).mul(1 + scale).add(shift)).mul(gate).add(x)


class InPlace(Block):
    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        scale, shift, gate = self.make(F.silu(t))[:, None].chunk(3, dim=-1)
        h = self.norm(x)
        h.mul_(1 + scale).add_(shift)
        return x + self.branch(h).mul_(gate)


class Augmented(Block):
    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        scale, shift, gate = self.make(F.silu(t))[:, None].chunk(3, dim=-1)
        h = self.norm(x)
        h *= 1 + scale
        h += shift
        h = self.branch(h)
        h *= gate
        h += x
        return h


class OneByOne(Block):
    """The values of a batch are not broadcast but repeated, and the stream is flat."""

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        made = self.make(F.silu(t)).repeat_interleave(x.shape[1], dim=0)
        scale, shift, gate = made.chunk(3, dim=-1)
        flat = self.norm(x).flatten(0, 1) * (1 + scale) + shift
        return x + (gate * self.branch(flat)).unflatten(0, x.shape[:2])


class Einsum(Block):
    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        scale, shift, gate = self.make(F.silu(t)).chunk(3, dim=-1)
        h = torch.einsum("bnd,bd->bnd", self.norm(x), 1 + scale) + shift[:, None]
        return x + torch.einsum("bd,bnd->bnd", gate, self.branch(h))


class InFullPrecision(Block):
    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        scale, shift, gate = self.make(F.silu(t)).double()[:, None].chunk(3, dim=-1)
        h = (self.norm(x.double()) * (1 + scale) + shift).type_as(x)
        return (x.double() + self.branch(h).to(torch.float64) * gate).to(x.dtype)


class Dictionary(Block):
    """The parts travel in a dict, from a module to a method."""

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        made = dict(zip(("scale", "shift", "gate"), self.make(F.silu(t)).chunk(3, dim=-1), strict=True))
        return x + self.modulated(self.norm(x), **made)

    def modulated(self, h: Tensor, *, scale: Tensor, shift: Tensor, gate: Tensor) -> Tensor:
        h = (h.transpose(0, 1) * (1 + scale) + shift).transpose(0, 1)
        return (self.branch(h).transpose(0, 1) * gate).transpose(0, 1)


ADALN = [
    *(Chunk, Split, Unbind, Slices, Rearranged, ReshapedAndIndexed, Addcmul, AddcmulOfTheStream, OnTopOfItself),
    *(
        Lerp,
        LerpWrittenOut,
        Methods,
        InPlace,
        Augmented,
        OneByOne,
        Einsum,
        InFullPrecision,
    ),
    Dictionary,
]


@pytest.mark.parametrize("block", ADALN)
def test_one_modulator_by_block(roles_of: RolesOf, block: type[Block]) -> None:
    assert roles_of(Model(block), *inputs()) == MODULATED
