"""Where modulation comes from and what it acts on: tables, frames, sums of conditionings; and what looks like it.

Each expectation was read from the definition of the roles.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

BATCH, TOKENS, FEATURES, WIDTH, INNER, TIME, OUT, CLASSES = 3, 5, 7, 16, 24, 12, 10, 9
RolesOf = Callable[..., dict[str, str]]

ENDS = {"embed": "input_embedding", "norm": "norm", "head": "output_head"}
BRANCH = {"blocks.*.up": "feedforward_in", "blocks.*.down": "feedforward_out residual_output"}
TIMES = {"time.0": "conditioning", "time.2": "conditioning"}
PLAIN = ENDS | BRANCH | {"blocks.*.norm": "norm"}
MODULATED = PLAIN | TIMES | {"blocks.*.make": "modulation"}


def waves(t: Tensor) -> Tensor:
    angles = t[..., None] * torch.exp(-torch.arange(TIME // 2) / 3)
    return torch.cat([angles.sin(), angles.cos()], dim=-1)


def time_network() -> nn.Sequential:
    return nn.Sequential(nn.Linear(TIME, TIME), nn.SiLU(), nn.Linear(TIME, TIME))


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(WIDTH, elementwise_affine=False)
        self.up, self.down = nn.Linear(WIDTH, INNER), nn.Linear(INNER, WIDTH)
        self.make = self.modulator()

    def modulator(self) -> nn.Module:
        return nn.Linear(TIME, 3 * WIDTH)

    def branch(self, x: Tensor) -> Tensor:
        return self.down(F.gelu(self.up(x)))

    def modulated(self, x: Tensor, made: Tensor) -> Tensor:
        scale, shift, gate = made.chunk(3, dim=-1)
        return x + gate * self.branch(self.norm(x) * (1 + scale) + shift)

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        return self.modulated(x, self.make(F.silu(t))[:, None])


class Model(nn.Module):
    """Two blocks between an embedding and a head; subclasses say what the blocks are conditioned on."""

    block: type[nn.Module] = Block

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(FEATURES, WIDTH)
        self.time = time_network()
        self.blocks = nn.ModuleList(self.block() for _ in range(2))
        self.norm, self.head = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, OUT)

    def condition(self, t: Tensor, **more: Tensor) -> Tensor:
        return self.time(waves(t))

    def forward(self, x: Tensor, t: Tensor, **more: Tensor) -> Tensor:
        x, t = self.embed(x), self.condition(t, **more)
        for block in self.blocks:
            x = block(x, t)
        return self.head(self.norm(x))


def inputs(**changed: Tensor) -> dict[str, Tensor]:
    return {"x": torch.randn(BATCH, TOKENS, FEATURES), "t": torch.rand(BATCH)} | changed


# --- conditioned on ---------------------------------------------------------------------------


class TimeAndClass(Model):
    def __init__(self) -> None:
        super().__init__()
        self.label = nn.Embedding(CLASSES + 1, TIME)

    def condition(self, t: Tensor, **more: Tensor) -> Tensor:
        return self.time(waves(t)) + self.label(more["y"])


class TimeAndDroppedClass(TimeAndClass):
    """Classifier-free guidance: some classes are replaced by the last, empty one."""

    def condition(self, t: Tensor, **more: Tensor) -> Tensor:
        y = torch.where(more["drop"], CLASSES, more["y"])
        return self.time(waves(t)) + self.label(y)


class TimeAndText(Model):
    """A pooled text vector through a network of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.label = nn.Linear(FEATURES, TIME)

    def condition(self, t: Tensor, **more: Tensor) -> Tensor:
        return self.time(waves(t)) + self.label(more["y"])


class TimeBesideText(TimeAndText):
    """Joined, not added."""

    def __init__(self) -> None:
        super().__init__()
        self.join = nn.Linear(2 * TIME, TIME)

    def condition(self, t: Tensor, **more: Tensor) -> Tensor:
        return self.join(torch.cat([self.time(waves(t)), self.label(more["y"])], dim=-1))


LABEL = {"label": "conditioning"}


@pytest.mark.parametrize(
    ("model", "more", "expected"),
    [
        (TimeAndClass, {"y": torch.randint(0, CLASSES, (BATCH,))}, LABEL),
        (TimeAndDroppedClass, {"y": torch.arange(BATCH), "drop": torch.tensor([True, False, True])}, LABEL),
        (TimeAndText, {"y": torch.randn(BATCH, FEATURES)}, LABEL),
        (TimeBesideText, {"y": torch.randn(BATCH, FEATURES)}, LABEL | {"join": "conditioning"}),
    ],
)
def test_several_conditionings(
    roles_of: RolesOf, model: type[Model], more: dict[str, Tensor], expected: dict[str, str]
) -> None:
    assert roles_of(model(), **inputs(**more)) == MODULATED | expected


class LowRank(Block):
    def modulator(self) -> nn.Module:
        return nn.Sequential(nn.SiLU(), nn.Linear(TIME, 4), nn.Linear(4, 3 * WIDTH))

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        return self.modulated(x, self.make(t)[:, None])


class NetworkByBlock(LowRank):
    """Cosmos's way: an activation first, a small linear, a large one without bias."""

    def modulator(self) -> nn.Module:
        return nn.Sequential(nn.Tanh(), nn.Linear(TIME, 4, bias=False), nn.Linear(4, 3 * WIDTH, bias=False))


class LowRankModel(Model):
    block = LowRank


class NetworkModel(Model):
    block = NetworkByBlock


@pytest.mark.parametrize("model", [LowRankModel, NetworkModel])
def test_the_last_of_two_linears_is_the_modulator(roles_of: RolesOf, model: type[Model]) -> None:
    expected = PLAIN | TIMES | {"blocks.*.make.1": "conditioning", "blocks.*.make.2": "modulation"}
    assert roles_of(model(), **inputs()) == expected


class Table(Block):
    """Adds a table of its own to what all blocks share."""

    def modulator(self) -> nn.Module:
        return nn.Identity()

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.randn(3, WIDTH))

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        return self.modulated(x, (self.table + t.unflatten(-1, (3, WIDTH))).flatten(1)[:, None])


class FlatTable(Table):
    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        return self.modulated(x, t[:, None] + self.table.reshape(1, 1, -1))


class NoTable(Table):
    """All blocks are modulated by the very same values."""

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        return self.modulated(x, t[:, None])


class Shared(Model):
    block = Table

    def __init__(self) -> None:
        super().__init__()
        self.make = nn.Sequential(nn.SiLU(), nn.Linear(TIME, 3 * WIDTH))

    def condition(self, t: Tensor, **more: Tensor) -> Tensor:
        return self.make(self.time(waves(t)))


class SharedFlat(Shared):
    block = FlatTable


class SharedAlone(Shared):
    block = NoTable


class SharedForAll(Shared):
    """One linear makes the values of all blocks; each takes its own."""

    block = NoTable

    def __init__(self) -> None:
        super().__init__()
        self.make = nn.Sequential(nn.SiLU(), nn.Linear(TIME, 2 * 3 * WIDTH))

    def forward(self, x: Tensor, t: Tensor, **more: Tensor) -> Tensor:
        x = self.embed(x)
        for block, made in zip(self.blocks, self.condition(t).chunk(2, dim=-1), strict=True):
            x = block(x, made)
        return self.head(self.norm(x))


class SharedByIndex(SharedForAll):
    def forward(self, x: Tensor, t: Tensor, **more: Tensor) -> Tensor:
        x, made = self.embed(x), self.condition(t).view(BATCH, 2, -1)
        for number, block in enumerate(self.blocks):
            x = block(x, made[:, number])
        return self.head(self.norm(x))


@pytest.mark.parametrize("model", [Shared, SharedFlat, SharedAlone, SharedForAll, SharedByIndex])
def test_one_modulator_for_all_blocks(roles_of: RolesOf, model: type[Model]) -> None:
    assert roles_of(model(), **inputs()) == PLAIN | TIMES | {"make.1": "modulation"}


# --- at every token and frame -----------------------------------------------------------------


class ByToken(Block):
    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        return self.modulated(x, self.make(F.silu(t)))


class ByFrame(Block):
    """A time for each of five frames of four tokens."""

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        scale, shift, gate = self.make(F.silu(t)).unsqueeze(2).chunk(3, dim=-1)
        frames = rearrange(self.norm(x), "b (f s) d -> b f s d", f=5)
        h = rearrange(frames * (1 + scale) + shift, "b f s d -> b (f s) d")
        return x + (self.branch(h).unflatten(1, (5, -1)) * gate).flatten(1, 2)


class ByRepeatedFrame(Block):
    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        return self.modulated(x, self.make(F.silu(t)).repeat_interleave(4, dim=1))


class ByGatheredFrame(Block):
    """An index says which frame's values each token takes."""

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        frame = torch.arange(x.shape[1]) // 4
        return self.modulated(x, self.make(F.silu(t))[:, frame])


class ByTokenModel(Model):
    block = ByToken


class ByFrameModel(Model):
    block = ByFrame


class ByRepeatedFrameModel(Model):
    block = ByRepeatedFrame


class ByGatheredFrameModel(Model):
    block = ByGatheredFrame


@pytest.mark.parametrize("model", [ByTokenModel, ByFrameModel, ByRepeatedFrameModel, ByGatheredFrameModel])
def test_a_time_for_every_token_or_frame(roles_of: RolesOf, model: type[Model]) -> None:
    tokens = 5 if model is ByTokenModel else 20
    given = {"x": torch.randn(BATCH, tokens, FEATURES), "t": torch.rand(BATCH, 5)}
    assert roles_of(model(), **given) == MODULATED


# --- what is none -----------------------------------------------------------------------------


class LayerScale(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.full((WIDTH,), 1e-5))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gamma


class WithLayerScale(Block):
    """A gate made of a parameter, that no conditioning feeds."""

    def modulator(self) -> nn.Module:
        return LayerScale()

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        return x + self.make(self.branch(self.norm(x)))


class GateOfItsInput(Block):
    """A highway: how much of the branch is taken is computed from the stream, token by token."""

    def modulator(self) -> nn.Module:
        return nn.Linear(WIDTH, WIDTH)

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        h = self.norm(x)
        return x + self.branch(h) * torch.sigmoid(self.make(h))


class GateOfAToken(GateOfItsInput):
    """One number for each token, of the stream itself."""

    def modulator(self) -> nn.Module:
        return nn.Linear(WIDTH, 1)


class GateOfTheMean(GateOfItsInput):
    """Squeeze-and-excitation on tokens."""

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        h = self.norm(x)
        return x + self.branch(h) * torch.sigmoid(self.make(h.mean(dim=1, keepdim=True)))


class LayerScaleModel(Model):
    block = WithLayerScale


class GateOfItsInputModel(Model):
    block = GateOfItsInput


class GateOfATokenModel(Model):
    block = GateOfAToken


class GateOfTheMeanModel(Model):
    block = GateOfTheMean


@pytest.mark.parametrize("model", [LayerScaleModel, GateOfTheMeanModel])
def test_gates_of_parameters_and_of_the_mean(roles_of: RolesOf, model: type[Model]) -> None:
    assert roles_of(model(), **inputs()) == PLAIN


@pytest.mark.parametrize("model", [GateOfItsInputModel, GateOfATokenModel])
def test_gates_of_the_stream_itself(roles_of: RolesOf, model: type[Model]) -> None:
    found = roles_of(model(), **inputs())
    # Whether the gate of a whole branch ends that branch too, or routes it, is left open.
    gate = found.pop("blocks.*.make", "")
    assert "modulation" not in gate
    assert found == PLAIN


def test_a_conditioning_in_a_container(roles_of: RolesOf) -> None:
    class Nested(Model):
        def forward(self, x: Tensor, t: Any, **more: Tensor) -> Tensor:
            return super().forward(x, t["times"][0])

    assert roles_of(Nested(), torch.randn(BATCH, TOKENS, FEATURES), {"times": [torch.rand(BATCH)]}) == MODULATED
