"""Small diffusion networks: where else a time may act, and whole networks of the two common shapes.

Each expectation was read from the definition of the roles.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

BATCH, TOKENS, FEATURES, HEADS, SIZE, TIME, OUT, STEPS = 3, 6, 7, 2, 8, 12, 10, 50
WIDTH = HEADS * SIZE
RolesOf = Callable[..., dict[str, str]]

PLAIN = {
    "embed": "input_embedding",
    "blocks.*.norm": "norm",
    "blocks.*.q": "attention_query",
    "blocks.*.k": "attention_key",
    "blocks.*.v": "attention_value",
    "blocks.*.o": "attention_output residual_output",
    "norm": "norm",
    "head": "output_head",
}
TIMES = {"time.0": "conditioning", "time.2": "conditioning"}
MODULATED = PLAIN | TIMES | {"blocks.*.make": "modulation"}


def waves(t: Tensor) -> Tensor:
    angles = t[..., None] * torch.exp(-torch.arange(TIME // 2) / 3)
    return torch.cat([angles.sin(), angles.cos()], dim=-1)


class Block(nn.Module):
    """Attention, into which the time acts somewhere; subclasses say where."""

    wide = 3 * WIDTH

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.make = nn.LayerNorm(WIDTH), nn.Linear(TIME, self.wide)
        self.q, self.k, self.v, self.o = (nn.Linear(WIDTH, WIDTH) for _ in range(4))

    def attend(self, h: Tensor) -> Tensor:
        q, k, v = (made.unflatten(-1, (HEADS, SIZE)).transpose(1, 2) for made in (self.q(h), self.k(h), self.v(h)))
        return F.scaled_dot_product_attention(q, k, v).transpose(1, 2)

    def modulated(self, x: Tensor, made: Tensor) -> Tensor:
        scale, shift, gate = made.chunk(3, dim=-1)
        return x + gate * self.o(self.attend(self.norm(x) * (1 + scale) + shift).flatten(2))

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        return self.modulated(x, self.make(F.silu(t))[:, None])


class Model(nn.Module):
    def __init__(self, block: type[nn.Module] = Block) -> None:
        super().__init__()
        self.embed = nn.Linear(FEATURES, WIDTH)
        self.time: nn.Module = nn.Sequential(nn.Linear(TIME, TIME), nn.SiLU(), nn.Linear(TIME, TIME))
        self.blocks = nn.ModuleList(block() for _ in range(2))
        self.norm, self.head = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, OUT)

    def condition(self, t: Tensor) -> Tensor:
        return self.time(waves(t))

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        x, t = self.embed(x), self.condition(t)
        for block in self.blocks:
            x = block(x, t)
        return self.leaving(self.norm(x), t)

    def leaving(self, x: Tensor, t: Tensor) -> Tensor:
        return self.head(x)


def inputs() -> tuple[Tensor, Tensor]:
    return torch.randn(BATCH, TOKENS, FEATURES), torch.rand(BATCH)


class TwoTimes(Block):
    """The first tokens have a time of zero, as where they are an image to begin with."""

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        given = torch.arange(TOKENS)[None, :, None] < 2
        return self.modulated(x, torch.where(given, self.make(torch.zeros_like(t))[:, None], self.make(t)[:, None]))


class TwoTimesJoined(Block):
    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        first, others = self.make(t * 0).unsqueeze(1), self.make(t).unsqueeze(1)
        return self.modulated(x, torch.cat([first.expand(-1, 2, -1), others.expand(-1, TOKENS - 2, -1)], dim=1))


class ScaledQueries(Block):
    wide = HEADS

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        h = self.norm(x)
        q, k, v = (made.unflatten(-1, (HEADS, SIZE)).transpose(1, 2) for made in (self.q(h), self.k(h), self.v(h)))
        q = q * (1 + self.make(t)[:, :, None, None])
        return x + self.o(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


class GatedHeads(Block):
    wide = HEADS

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        return x + self.o((self.attend(self.norm(x)) * self.make(t)[:, None, :, None]).flatten(2))


class ScaledBeforeTheLast(Block):
    """What is scaled is the attention's result, before its projection."""

    wide = WIDTH

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        return x + self.o(self.attend(self.norm(x)).flatten(2) * self.make(t).exp()[:, None])


@pytest.mark.parametrize("block", [Block, TwoTimes, TwoTimesJoined, ScaledQueries, GatedHeads, ScaledBeforeTheLast])
def test_where_a_time_acts(roles_of: RolesOf, block: type[Block]) -> None:
    assert roles_of(Model(block), *inputs()) == MODULATED


class BiasOfTheScores(Block):
    """The time adds to the scores of the attention: it scales nothing."""

    wide = HEADS

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        h = self.norm(x)
        q, k, v = (made.unflatten(-1, (HEADS, SIZE)).transpose(1, 2) for made in (self.q(h), self.k(h), self.v(h)))
        bias = self.make(t)[:, :, None, None] * torch.eye(TOKENS)
        return x + self.o(((q @ k.mT + bias).softmax(-1) @ v).transpose(1, 2).flatten(2))


class TimeToken(Block):
    """The time is a key and value more."""

    wide = WIDTH

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        h = torch.cat([self.make(t)[:, None], self.norm(x)], dim=1)
        return x + self.o(self.attend(h).flatten(2)[:, 1:])


@pytest.mark.parametrize("block", [BiasOfTheScores, TimeToken])
def test_a_time_that_does_not_modulate(roles_of: RolesOf, block: type[Block]) -> None:
    assert roles_of(Model(block), *inputs()) == PLAIN


class LastLayer(Model):
    """The last norm is modulated too."""

    def __init__(self) -> None:
        super().__init__()
        self.last = nn.Sequential(nn.SiLU(), nn.Linear(TIME, 2 * WIDTH))

    def leaving(self, x: Tensor, t: Tensor) -> Tensor:
        shift, scale = self.last(t).chunk(2, dim=1)
        return self.head(x * (1 + scale.unsqueeze(1)) + shift.unsqueeze(1))


class LastTable(Model):
    """A table and the time itself modulate the last norm, without a linear between."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.last = nn.Parameter(torch.randn(2, WIDTH)), nn.Sequential(nn.SiLU(), nn.Linear(TIME, WIDTH))

    def leaving(self, x: Tensor, t: Tensor) -> Tensor:
        shift, scale = (self.table[None] + self.last(t)[:, None]).chunk(2, dim=1)
        return self.head((x * (1 + scale) + shift).contiguous())


@pytest.mark.parametrize("model", [LastLayer, LastTable])
def test_the_last_norm(roles_of: RolesOf, model: type[Model]) -> None:
    assert roles_of(model(), *inputs()) == MODULATED | {"last.1": "modulation"}


class TableOfTimes(Model):
    """Times are whole numbers, each a row of a table."""

    def __init__(self) -> None:
        super().__init__()
        self.time = nn.Embedding(STEPS, TIME)

    def condition(self, t: Tensor) -> Tensor:
        return self.time(t)


class FourierFeatures(Model):
    """Random frequencies, which no gradient changes."""

    def __init__(self) -> None:
        super().__init__()
        self.time = nn.Linear(TIME, TIME)
        self.frequencies = nn.Parameter(torch.randn(TIME // 2), requires_grad=False)

    def condition(self, t: Tensor) -> Tensor:
        angles = 2 * torch.pi * t[:, None] * self.frequencies
        return self.time(torch.cat([angles.cos(), angles.sin()], dim=-1))


@pytest.mark.parametrize("model", [TableOfTimes, FourierFeatures])
def test_where_a_time_comes_from(roles_of: RolesOf, model: type[Model]) -> None:
    t = torch.randint(0, STEPS, (BATCH,)) if model is TableOfTimes else torch.rand(BATCH)
    expected = PLAIN | {"blocks.*.make": "modulation", "time": "conditioning"}
    assert roles_of(model(), inputs()[0], t) == expected


class Residual(nn.Module):
    """Two convolutions, scaled and shifted by the time, and a shortcut where the width changes."""

    def __init__(self, wide: int, narrow: int) -> None:
        super().__init__()
        self.norm, self.again = nn.GroupNorm(4, wide), nn.GroupNorm(4, narrow)
        self.up, self.down = nn.Conv2d(wide, narrow, 3, padding=1), nn.Conv2d(narrow, narrow, 3, padding=1)
        self.make = nn.Linear(TIME, 2 * narrow)
        self.shortcut = nn.Conv2d(wide, narrow, 1) if wide != narrow else nn.Identity()

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        scale, shift = self.make(F.silu(t))[:, :, None, None].chunk(2, dim=1)
        h = self.up(F.silu(self.norm(x)))
        h = self.again(h) * (1 + scale) + shift
        return self.shortcut(x) + self.down(F.dropout(F.silu(h), 0.1, self.training))


class UNet(nn.Module):
    """Down by a strided convolution, up by the nearest pixel and a convolution; skips are joined to the channels."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.time = nn.Conv2d(FEATURES, WIDTH, 3, padding=1), nn.Linear(TIME, TIME)
        widths = [(WIDTH, WIDTH), (WIDTH, 24), (24, 24), (48, WIDTH), (2 * WIDTH, WIDTH)]
        self.blocks = nn.ModuleList(Residual(*pair) for pair in widths)
        self.smaller, self.larger = nn.Conv2d(WIDTH, WIDTH, 3, 2, 1), nn.Conv2d(WIDTH, WIDTH, 3, padding=1)
        self.norm, self.head = nn.GroupNorm(4, WIDTH), nn.Conv2d(WIDTH, FEATURES, 3, padding=1)

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        t = self.time(waves(t))
        high = self.blocks[0](self.embed(x), t)
        low = self.blocks[1](self.smaller(high), t)
        x = self.blocks[3](torch.cat([self.blocks[2](low, t), low], dim=1), t)
        x = self.larger(F.interpolate(x, scale_factor=2.0, mode="nearest"))
        x = self.blocks[4](torch.cat([x, high], dim=1), t)
        return self.head(F.silu(self.norm(x)))


def test_a_network_of_convolutions(roles_of: RolesOf) -> None:
    expected = {
        "embed": "input_embedding",
        "time": "conditioning",
        "blocks.*.norm": "norm",
        "blocks.*.up": "feedforward_in",
        "blocks.*.make": "modulation",
        "blocks.*.again": "norm",
        "blocks.*.down": "feedforward_out residual_output",
        "norm": "norm",
        "head": "output_head",
    }
    assert roles_of(UNet(), torch.randn(BATCH, FEATURES, 8, 8), torch.rand(BATCH)) == expected


class EncoderDecoder(nn.Module):
    """Words are read by one half; the other writes words, looks back, and shares the table."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.head = nn.Embedding(STEPS, WIDTH), nn.Linear(WIDTH, STEPS)
        self.reads, self.blocks = nn.ModuleList(Block() for _ in range(2)), nn.ModuleList(Block() for _ in range(2))
        self.norm = nn.LayerNorm(WIDTH)

    def forward(self, read: Tensor, written: Tensor) -> Tensor:
        x, y = self.embed(read), self.embed(written)
        for block in self.reads:
            x = x + block.o(block.attend(block.norm(x)).flatten(2))
        for block in self.blocks:
            q, k, v = (
                made.unflatten(-1, (HEADS, SIZE)).transpose(1, 2)
                for made in (block.q(block.norm(y)), block.k(x), block.v(x))
            )
            y = y + block.o(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))
        return self.head(self.norm(y))


def test_an_encoder_and_a_decoder(roles_of: RolesOf) -> None:
    found = roles_of(EncoderDecoder(), torch.randint(0, STEPS, (BATCH, 9)), torch.randint(0, STEPS, (BATCH, TOKENS)))
    reads = {path: roles for path, roles in found.items() if path.startswith("reads.")}
    assert {path: roles for path, roles in found.items() if path not in reads} == PLAIN
    for i in range(2):
        expected = {f"reads.{i}.{p[9:]}": roles for p, roles in PLAIN.items() if p.startswith("blocks.*.")}
        assert expected.items() <= reads.items()
    assert len(reads) == 2 * 5
