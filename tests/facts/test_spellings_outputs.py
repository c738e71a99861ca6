"""Where a model's output leaves it, in the spellings that people write it in.

Each expectation was read from the definition of the roles.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

BATCH, TOKENS, FEATURES, WIDTH, INNER, WORDS, PATCH = 3, 5, 7, 16, 24, 23, 2
RolesOf = Callable[..., dict[str, str]]

INSIDE = {
    "blocks.*.norm": "norm",
    "blocks.*.up": "feedforward_in",
    "blocks.*.down": "feedforward_out residual_output",
    "norm": "norm",
}


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(WIDTH)
        self.up, self.down = nn.Linear(WIDTH, INNER), nn.Linear(INNER, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.down(F.gelu(self.up(self.norm(x))))


class Model(nn.Module):
    """Two blocks; subclasses say how content comes to them and how the output leaves."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(Block() for _ in range(2))
        self.norm = nn.LayerNorm(WIDTH)

    def through(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = block(x)
        return self.norm(x)


def tokens() -> Tensor:
    return torch.randn(BATCH, TOKENS, FEATURES)


def words() -> Tensor:
    return torch.randint(0, WORDS, (BATCH, TOKENS))


class Leaving(Model):
    wide = PATCH * PATCH * FEATURES

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.head = nn.Linear(FEATURES, WIDTH), nn.Linear(WIDTH, self.wide)

    def forward(self, x: Tensor) -> Any:
        return self.leaving(self.through(self.embed(x)))

    def leaving(self, x: Tensor) -> Any:
        return self.head(x)


class Capped(Leaving):
    def leaving(self, x: Tensor) -> Any:
        return 30 * torch.tanh(self.head(x) / 30)


class Probabilities(Leaving):
    def leaving(self, x: Tensor) -> Any:
        return self.head(x).float().sigmoid()


class Clamped(Leaving):
    def leaving(self, x: Tensor) -> Any:
        return self.head(x).clamp(-1, 1).mul(127.5).add(127.5)


class Shuffled(Leaving):
    def leaving(self, x: Tensor) -> Any:
        made = self.head(x).mT.unflatten(-1, (TOKENS, 1))
        return F.pixel_shuffle(made, PATCH)


class Unpatched(Leaving):
    def leaving(self, x: Tensor) -> Any:
        return rearrange(self.head(x), "b n (p q c) -> b c (n p) q", p=PATCH, q=PATCH)


class UnpatchedByEinsum(Leaving):
    def leaving(self, x: Tensor) -> Any:
        made = self.head(x).reshape(BATCH, TOKENS, 1, PATCH, PATCH, FEATURES)
        return torch.einsum("nhwpqc->nchpwq", made).reshape(BATCH, FEATURES, TOKENS * PATCH, PATCH)


class Folded(Leaving):
    def leaving(self, x: Tensor) -> Any:
        return F.fold(self.head(x).mT, (TOKENS * PATCH, PATCH), PATCH, stride=PATCH)


class InADict(Leaving):
    def leaving(self, x: Tensor) -> Any:
        return {"sample": [self.head(x).permute(0, 2, 1)], "loss": None}


@dataclass
class Made:
    sample: Tensor
    hidden: tuple[Tensor, ...] = ()


class InADataclass(Leaving):
    def leaving(self, x: Tensor) -> Any:
        return Made(self.head(x), (x,))


class InAModelOutput(Leaving):
    def leaving(self, x: Tensor) -> Any:
        from transformers.modeling_outputs import BaseModelOutput

        return BaseModelOutput(last_hidden_state=self.head(x), hidden_states=(x,))


class WrittenByChunks(Leaving):
    def leaving(self, x: Tensor) -> Any:
        out = x.new_zeros(BATCH, TOKENS, self.wide)
        for i in range(TOKENS):
            out[:, i] = self.head(x[:, i])
        return out


class ByFunction(Leaving):
    def leaving(self, x: Tensor) -> Any:
        return F.linear(x, self.head.weight, self.head.bias)


class ByMatmul(Leaving):
    def leaving(self, x: Tensor) -> Any:
        return x @ self.head.weight.T


LEAVING = [
    *(Leaving, Capped, Probabilities, Clamped, Shuffled, Unpatched, UnpatchedByEinsum, Folded, InADict, InADataclass),
    *(InAModelOutput, WrittenByChunks, ByFunction, ByMatmul),
]


@pytest.mark.parametrize("model", LEAVING)
def test_the_last_projection(roles_of: RolesOf, model: type[Leaving]) -> None:
    assert roles_of(model(), tokens()) == INSIDE | {"embed": "input_embedding", "head": "output_head"}


class TwoHeads(Leaving):
    """A noise and its variance, from a head each."""

    def __init__(self) -> None:
        super().__init__()
        self.other = nn.Linear(WIDTH, 1)

    def leaving(self, x: Tensor) -> Any:
        return self.head(x), F.softplus(self.other(x))


class TwoHeadsJoined(TwoHeads):
    def leaving(self, x: Tensor) -> Any:
        return torch.cat([self.head(x), self.other(x).exp()], dim=-1)


@pytest.mark.parametrize("model", [TwoHeads, TwoHeadsJoined])
def test_two_heads(roles_of: RolesOf, model: type[Leaving]) -> None:
    ends = {"embed": "input_embedding", "head": "output_head", "other": "output_head"}
    assert roles_of(model(), tokens()) == INSIDE | ends


class Tied(Model):
    """The head is the table of words, read as a matrix."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(WORDS, WIDTH)

    def forward(self, ids: Tensor) -> Tensor:
        return F.linear(self.through(self.embed(ids)), self.embed.weight)


class TiedByProduct(Tied):
    def forward(self, ids: Tensor) -> Tensor:
        return self.through(self.embed(ids)) @ self.embed.weight.mT


class TiedByEinsum(Tied):
    def forward(self, ids: Tensor) -> Tensor:
        return torch.einsum("bnd,vd->bnv", self.through(self.embed(ids)), self.embed.weight)


@pytest.mark.parametrize("model", [Tied, TiedByProduct, TiedByEinsum])
def test_a_head_that_is_the_table(roles_of: RolesOf, model: type[Tied]) -> None:
    assert roles_of(model(), words()) == INSIDE | {"embed": "input_embedding output_head"}


class TiedModules(Tied):
    """A linear of its own that shares the table's parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(WIDTH, WORDS, bias=False)
        self.head.weight = self.embed.weight

    def forward(self, ids: Tensor) -> Tensor:
        return self.head(self.through(self.embed(ids)))


def test_a_head_that_shares_the_table(roles_of: RolesOf) -> None:
    assert roles_of(TiedModules(), words()) == INSIDE | {"embed": "input_embedding", "head": "output_head"}


class NormLast(Leaving):
    """Nothing projects after the last norm: there is no head."""

    def leaving(self, x: Tensor) -> Any:
        return F.layer_norm(self.head(x), (self.wide,))


class Hidden(Leaving):
    def leaving(self, x: Tensor) -> Any:
        return x


def test_no_head(roles_of: RolesOf) -> None:
    expected = INSIDE | {"embed": "input_embedding"}
    assert roles_of(NormLast(), tokens()) == expected
    assert roles_of(Hidden(), tokens()) == expected
