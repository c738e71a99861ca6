"""What looks like a router, a residual stream, an attention or a modulator, and is none.

Each expectation was read from the definition of the roles.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

BATCH, TOKENS, FEATURES, WIDTH, INNER, OUT = 3, 5, 7, 16, 24, 10
RolesOf = Callable[..., dict[str, str]]

ROLES = {
    "embed": "input_embedding",
    "blocks.*.norm": "norm",
    "blocks.*.up": "feedforward_in",
    "blocks.*.down": "feedforward_out residual_output",
    "norm": "norm",
    "head": "output_head",
}


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm, self.up, self.down = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, INNER), nn.Linear(INNER, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.down(F.gelu(self.up(self.norm(x))))


class Model(nn.Module):
    """Two blocks; `more` is a linear that subclasses put somewhere, and that has no role there."""

    wide = WIDTH

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.more = nn.Linear(FEATURES, WIDTH), nn.Linear(WIDTH, self.wide)
        self.blocks = nn.ModuleList(Block() for _ in range(2))
        self.norm, self.head = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, OUT)

    def forward(self, x: Tensor) -> Any:
        x = self.changed(self.embed(x))
        for block in self.blocks:
            x = block(x)
        return self.leaving(self.head(self.norm(x)))

    def changed(self, x: Tensor) -> Tensor:
        return self.more(x)

    def leaving(self, made: Tensor) -> Any:
        return made


def tokens() -> Tensor:
    return torch.randn(BATCH, TOKENS, FEATURES)


class BestProposals(Model):
    """The tokens whose best class is likeliest, as a two-stage detector picks them."""

    wide = 4

    def changed(self, x: Tensor) -> Tensor:
        best = torch.topk(self.more(x).max(dim=-1).values, 3, dim=1).indices
        return torch.gather(x, 1, best.unsqueeze(-1).repeat(1, 1, WIDTH))


class SortedTokens(Model):
    wide = 1

    def changed(self, x: Tensor) -> Tensor:
        order = self.more(x)[..., 0].argsort(dim=-1, descending=True)
        return x[torch.arange(BATCH)[:, None], order]


class TwoLinearsAdded(Model):
    """A sum of two projections of the same: neither is a branch beside a stream."""

    def __init__(self) -> None:
        super().__init__()
        self.other = nn.Linear(WIDTH, WIDTH)

    def changed(self, x: Tensor) -> Tensor:
        return self.more(x) + self.other(x)


class NeighboursAdded(Model):
    """Nothing is learnt between a token and its neighbours."""

    def changed(self, x: Tensor) -> Tensor:
        x = self.more(x)
        return x + F.avg_pool1d(x.mT, 3, stride=1, padding=1).mT


class WeighedTokens(Model):
    """A mean of the tokens with weights of a softmax over them: one score each, and no product of features."""

    wide = 1

    def changed(self, x: Tensor) -> Tensor:
        return (x * self.more(x).softmax(dim=1)).sum(1, keepdim=True).expand(-1, TOKENS, -1)


class Interpolated(Model):
    def changed(self, x: Tensor) -> Tensor:
        return F.interpolate(self.more(x).mT, scale_factor=2.0, mode="linear").mT


class MixedLayers(Model):
    """The stream after each layer, in learnt shares."""

    def __init__(self) -> None:
        super().__init__()
        self.shares = nn.Parameter(torch.zeros(3))

    def forward(self, x: Tensor) -> Any:
        seen = [self.more(F.silu(self.embed(x)))]
        for block in self.blocks:
            seen.append(block(seen[-1]))
        mixed = (torch.stack(seen) * self.shares.softmax(0)[:, None, None, None]).sum(0)
        return self.head(self.norm(mixed))


class CountedCalls(Model):
    """A buffer counts the calls, and a moving mean is kept."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("count", torch.zeros((), dtype=torch.long))
        self.register_buffer("mean", torch.zeros(WIDTH))

    def changed(self, x: Tensor) -> Tensor:
        x = self.more(x)
        self.count += 1
        self.mean.mul_(0.9).add_(x.detach().mean((0, 1)), alpha=0.1)
        return x - self.mean


LOOKALIKES = [
    *(Model, BestProposals, SortedTokens, TwoLinearsAdded),
    *(NeighboursAdded, Interpolated, MixedLayers, CountedCalls),
]


@pytest.mark.parametrize("kind", LOOKALIKES)
def test_what_has_no_role(roles_of: RolesOf, kind: type[Model]) -> None:
    assert roles_of(kind(), tokens()) == ROLES


def test_a_run_leaves_buffers_as_they_were(roles_of: RolesOf) -> None:
    model = CountedCalls()
    roles_of(model, tokens())
    assert model.count == 0
    assert not model.mean.any()


def test_scores_over_tokens_are_no_modulation(roles_of: RolesOf) -> None:
    # Whether pooling by scores without any query is an attention is left open.
    found = roles_of(WeighedTokens(), tokens())
    assert not {"modulation", "router"} & set(found.get("more", "").split())
    assert {path: roles for path, roles in found.items() if path != "more"} == ROLES
