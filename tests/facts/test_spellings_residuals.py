"""Residual streams: how branches leave and join them, in the spellings that people write them in.

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

ENDS = {"embed": "input_embedding", "norm": "norm", "head": "output_head"}
BRANCH = {"blocks.*.up": "feedforward_in", "blocks.*.down": "feedforward_out residual_output"}
PLAIN = ENDS | BRANCH | {"blocks.*.norm": "norm"}


class Model(nn.Module):
    """Two blocks between an embedding and a head."""

    def __init__(self, block: type[nn.Module]) -> None:
        super().__init__()
        self.embed = nn.Linear(FEATURES, WIDTH)
        self.blocks = nn.ModuleList(block() for _ in range(2))
        self.norm, self.head = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, OUT)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x)
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x))


def tokens() -> Tensor:
    return torch.randn(BATCH, TOKENS, FEATURES)


class Block(nn.Module):
    """`x + branch(norm(x))`; subclasses say it in other words."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(WIDTH)
        self.up, self.down = nn.Linear(WIDTH, INNER), nn.Linear(INNER, WIDTH)

    def branch(self, x: Tensor) -> Tensor:
        return self.down(F.gelu(self.up(x)))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.branch(self.norm(x))


class BranchFirst(Block):
    def forward(self, x: Tensor) -> Tensor:
        return self.branch(self.norm(x)) + x


class ByFunction(Block):
    def forward(self, x: Tensor) -> Tensor:
        return torch.add(input=x, other=self.branch(self.norm(x)))


class ScaledByFunction(Block):
    def forward(self, x: Tensor) -> Tensor:
        return torch.add(x, self.branch(self.norm(x)), alpha=0.5)


class Augmented(Block):
    def forward(self, x: Tensor) -> Tensor:
        x = x.clone()
        x += self.branch(self.norm(x))
        return x


class InPlaceOnTheBranch(Block):
    def forward(self, x: Tensor) -> Tensor:
        residual = x
        return self.branch(self.norm(x)).add_(residual)


class ScaledByNumber(Block):
    def forward(self, x: Tensor) -> Tensor:
        return x + 0.1 * self.branch(self.norm(x))


class Normalised(Block):
    """The sum's variance is kept: `(x + f(x)) / sqrt(2)`."""

    def forward(self, x: Tensor) -> Tensor:
        return (x + self.branch(self.norm(x))) / 2**0.5


class ScaledStream(Block):
    """The stream is scaled by a number too."""

    def forward(self, x: Tensor) -> Tensor:
        return x * 0.9 + self.branch(self.norm(x)) * 0.1


class LearntScale(Block):
    """A number for the branch and one for the stream, both learnt."""

    def __init__(self) -> None:
        super().__init__()
        self.alpha, self.beta = nn.Parameter(torch.tensor(0.1)), nn.Parameter(torch.ones(WIDTH))

    def forward(self, x: Tensor) -> Tensor:
        return self.beta * x + self.alpha * self.branch(self.norm(x))


class LerpByNumber(Block):
    def forward(self, x: Tensor) -> Tensor:
        return torch.lerp(x, self.branch(self.norm(x)), 0.5)


class BuiltinSum(Block):
    def forward(self, x: Tensor) -> Tensor:
        return sum([x, self.branch(self.norm(x))])


class FullPrecision(Block):
    """The stream is kept in float64, the branch computed in bfloat16."""

    def forward(self, x: Tensor) -> Tensor:
        return (x.double() + self.branch(self.norm(x)).bfloat16().double()).float()


class DroppedPath(Block):
    """Stochastic depth by a mask for each sample, as when training."""

    def forward(self, x: Tensor) -> Tensor:
        keep = x.new_empty(x.shape[0], 1, 1).bernoulli_(0.9).div_(0.9)
        return x + self.branch(self.norm(x)) * keep


class DroppedSamples(Block):
    """Stochastic depth by computing some of the samples only."""

    def forward(self, x: Tensor) -> Tensor:
        kept = torch.arange(0, x.shape[0], 2)
        made = self.branch(self.norm(x[kept]))
        return torch.index_add(x, 0, kept, made, alpha=1.5)


class Flattened(Block):
    def forward(self, x: Tensor) -> Tensor:
        flat = x.reshape(-1, WIDTH)
        return (flat + self.branch(self.norm(flat))).reshape(x.shape)


class TokensLast(Block):
    def forward(self, x: Tensor) -> Tensor:
        x = x.transpose(1, 2)
        x = x + self.branch(self.norm(x.transpose(1, 2))).transpose(1, 2)
        return x.transpose(1, 2)


class PartOfTheTokens(Block):
    """The first token passes by; the others run through the branch."""

    def forward(self, x: Tensor) -> Tensor:
        first, others = x[:, :1], x[:, 1:]
        return torch.cat([first, others + self.branch(self.norm(others))], dim=1)


class WrittenIntoASlice(Block):
    def forward(self, x: Tensor) -> Tensor:
        out = x.clone()
        out[:, 1:] += self.branch(self.norm(x[:, 1:]))
        return out


class Shifted(Block):
    """The branch runs on windows that were rolled, and is rolled back."""

    def forward(self, x: Tensor) -> Tensor:
        made = self.branch(self.norm(x).roll(2, dims=1))
        return x + made.roll(-2, dims=1)


class PostNorm(Block):
    def forward(self, x: Tensor) -> Tensor:
        return self.norm(x + self.branch(x))


class DeepNorm(Block):
    """A post-norm whose stream is scaled up (Wang et al., arXiv 2203.00555)."""

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(x * 1.2 + self.branch(x))


class NormOfTheBranch(Block):
    """The branch's result is normalised, not its input (Swin v2, OLMo 2)."""

    def forward(self, x: Tensor) -> Tensor:
        return x + self.norm(self.branch(x))


BLOCKS = [
    *(Block, BranchFirst, ByFunction, ScaledByFunction, Augmented, InPlaceOnTheBranch, ScaledByNumber),
    *(Normalised, ScaledStream, LearntScale, LerpByNumber, BuiltinSum, FullPrecision, DroppedPath),
    *(DroppedSamples, Flattened, TokensLast, PartOfTheTokens, WrittenIntoASlice, Shifted, PostNorm, DeepNorm),
    NormOfTheBranch,
]


@pytest.mark.parametrize("block", BLOCKS)
def test_a_branch_joins_its_stream(roles_of: RolesOf, block: type[Block]) -> None:
    assert roles_of(Model(block), tokens()) == PLAIN


class Sandwich(Block):
    """A norm before and a norm after."""

    def __init__(self) -> None:
        super().__init__()
        self.after = nn.RMSNorm(WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.after(self.branch(self.norm(x)))


def test_two_norms(roles_of: RolesOf) -> None:
    assert roles_of(Model(Sandwich), tokens()) == PLAIN | {"blocks.*.after": "norm"}


class Reversible(nn.Module):
    """Two streams that feed each other (Gomez et al., arXiv 1707.04585)."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(FEATURES, WIDTH)
        self.blocks = nn.ModuleList(Block() for _ in range(4))
        self.norm, self.head = nn.LayerNorm(2 * WIDTH), nn.Linear(2 * WIDTH, OUT)

    def forward(self, x: Tensor) -> Tensor:
        a = b = self.embed(x)
        for one, other in zip(self.blocks[::2], self.blocks[1::2], strict=True):
            a = a + one.branch(one.norm(b))
            b = b + other.branch(other.norm(a))
        return self.head(self.norm(torch.cat([a, b], dim=-1)))


def test_reversible_blocks(roles_of: RolesOf) -> None:
    assert roles_of(Reversible(), tokens()) == PLAIN


class Down(Block):
    """Twice the channels on half the tokens; a projection takes the stream along."""

    def __init__(self) -> None:
        super().__init__()
        self.up, self.down = nn.Conv1d(WIDTH, INNER, 3, 2, 1), nn.Conv1d(INNER, WIDTH, 3, 1, 1)
        self.shortcut, self.norm = nn.Conv1d(WIDTH, WIDTH, 1, 2), nn.GroupNorm(4, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        x = x.transpose(1, 2)
        return (self.branch(self.norm(x)) + self.shortcut(x)).transpose(1, 2)


@pytest.mark.parametrize(
    "block",
    [
        Down,
    ],
)
def test_a_projection_on_the_skip_path_has_no_role(roles_of: RolesOf, block: type[Block]) -> None:
    assert roles_of(Model(block), tokens()) == PLAIN


class Skipped(nn.Module):
    """A U-Net of tokens: what the first half made is joined to the second half's stream, and a linear fuses both."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(FEATURES, WIDTH)
        self.blocks = nn.ModuleList(Block() for _ in range(4))
        self.fuse = nn.ModuleList(nn.Linear(2 * WIDTH, WIDTH) for _ in range(2))
        self.norm, self.head = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, OUT)

    def forward(self, x: Tensor) -> Tensor:
        x, skips = self.embed(x), []
        for block in self.blocks[:2]:
            x = block(x)
            skips.append(x)
        for block, fuse in zip(self.blocks[2:], self.fuse, strict=True):
            x = block(fuse(torch.cat([x, skips.pop()], dim=-1)))
        return self.head(self.norm(x))


def test_skips_that_are_joined(roles_of: RolesOf) -> None:
    assert roles_of(Skipped(), tokens()) == PLAIN
