"""Where content enters a model, in the spellings that people write it in.

Each expectation was read from the definition of the roles.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import pytest
import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

BATCH, TOKENS, FEATURES, WIDTH, INNER, OUT, WORDS, PATCH, SIDE = 3, 5, 7, 16, 24, 10, 23, 2, 8
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


def image() -> Tensor:
    return torch.randn(BATCH, FEATURES, SIDE, SIDE)


class Entering(Model):
    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(WIDTH, OUT)
        self.embed: nn.Module = nn.Linear(FEATURES, WIDTH)

    def forward(self, *given: Tensor) -> Tensor:
        return self.head(self.through(self.entering(*given)))

    def entering(self, *given: Tensor) -> Tensor:
        return self.embed(given[0])


class Words(Entering):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(WORDS, WIDTH)


class WordsAsRows(Words):
    """The table is indexed, as one does with a parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = Rows()


class Rows(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(WORDS, WIDTH))

    def forward(self, ids: Tensor) -> Tensor:
        return self.weight[ids]


class SelectedRows(Rows):
    def forward(self, ids: Tensor) -> Tensor:
        return self.weight.index_select(0, ids.flatten()).view(*ids.shape, WIDTH)


class WordsAsSelectedRows(Words):
    def __init__(self) -> None:
        super().__init__()
        self.embed = SelectedRows()


class OneHot(Words):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(WORDS, WIDTH, bias=False)

    def entering(self, *given: Tensor) -> Tensor:
        return self.embed(F.one_hot(given[0], WORDS).float())


class WordsAndTable(Words):
    """Positions are rows of a table."""

    def __init__(self) -> None:
        super().__init__()
        self.place = nn.Embedding(TOKENS, WIDTH)

    def entering(self, *given: Tensor) -> Tensor:
        return self.embed(given[0]) * WIDTH**0.5 + self.place(torch.arange(TOKENS))


class WordsAndGivenPlaces(WordsAndTable):
    """The positions are an input of the model."""

    def entering(self, *given: Tensor) -> Tensor:
        return self.embed(given[0]) + self.place(given[1])


class WordsAndParameter(Words):
    def __init__(self) -> None:
        super().__init__()
        self.place = nn.Parameter(torch.zeros(1, TOKENS, WIDTH))

    def entering(self, *given: Tensor) -> Tensor:
        return self.embed(given[0]) + self.place[:, : given[0].shape[1]]


class WordsAndWaves(Words):
    def entering(self, *given: Tensor) -> Tensor:
        angle = torch.arange(TOKENS)[:, None] / 1000 ** (torch.arange(0, WIDTH, 2) / WIDTH)
        waves = torch.zeros(TOKENS, WIDTH)
        waves[:, 0::2], waves[:, 1::2] = angle.sin(), angle.cos()
        return F.dropout(self.embed(given[0]) + waves, training=False)


class WordsAndTypes(WordsAndTable):
    """Every token is of one of two types."""

    def __init__(self) -> None:
        super().__init__()
        self.kind = nn.Embedding(2, WIDTH)

    def entering(self, *given: Tensor) -> Tensor:
        return super().entering(*given) + self.kind(torch.zeros_like(given[0]))


class Patches(Entering):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Conv2d(FEATURES, WIDTH, PATCH, PATCH)

    def entering(self, *given: Tensor) -> Tensor:
        return self.embed(given[0]).flatten(2).transpose(1, 2)


class PatchesByRearrange(Patches):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(FEATURES * PATCH * PATCH, WIDTH)

    def entering(self, *given: Tensor) -> Tensor:
        return self.embed(rearrange(given[0], "b c (y p) (x q) -> b (y x) (p q c)", p=PATCH, q=PATCH))


class PatchesByUnfold(PatchesByRearrange):
    def entering(self, *given: Tensor) -> Tensor:
        return self.embed(F.unfold(given[0], PATCH, stride=PATCH).mT)


class PatchesAndClass(Patches):
    """A learnt token stands before the patches."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Parameter(torch.zeros(1, 1, WIDTH))

    def entering(self, *given: Tensor) -> Tensor:
        return torch.cat([self.first.expand(BATCH, -1, -1), super().entering(*given)], dim=1)


class Standardised(Entering):
    """The features are brought to mean zero by buffers first."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(FEATURES))
        self.register_buffer("spread", torch.ones(FEATURES))

    def entering(self, *given: Tensor) -> Tensor:
        return self.embed((given[0] - self.mean) / self.spread)


class JoinedInputs(Entering):
    """Noise and condition side by side through one linear."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(2 * FEATURES, WIDTH)

    def entering(self, *given: Tensor) -> Tensor:
        return self.embed(torch.cat([given[0], given[1]], dim=-1))


class MaskedInput(Entering):
    def entering(self, *given: Tensor) -> Tensor:
        return self.embed(given[0].masked_fill(given[1][..., None], 0.0))


class TwoLayers(Entering):
    """Only the first projection embeds."""

    def __init__(self) -> None:
        super().__init__()
        self.second = nn.Linear(WIDTH, WIDTH)

    def entering(self, *given: Tensor) -> Tensor:
        return self.second(F.silu(self.embed(given[0])))


ENTERING = [
    *((kind, [words()]) for kind in (Words, WordsAsRows, WordsAsSelectedRows, OneHot, WordsAndTable)),
    *((kind, [words()]) for kind in (WordsAndParameter, WordsAndWaves, WordsAndTypes)),
    (WordsAndGivenPlaces, [words(), torch.arange(TOKENS).expand(BATCH, -1)]),
    *((kind, [image()]) for kind in (Patches, PatchesByRearrange, PatchesByUnfold, PatchesAndClass)),
    *((kind, [tokens()]) for kind in (Entering, Standardised, TwoLayers)),
    (JoinedInputs, [tokens(), tokens()]),
    (MaskedInput, [tokens(), torch.zeros(BATCH, TOKENS).bool()]),
]


@pytest.mark.parametrize(("model", "given"), ENTERING)
def test_the_first_projection_of_content(roles_of: RolesOf, model: type[Entering], given: list[Tensor]) -> None:
    assert roles_of(model(), *given) == INSIDE | {"embed": "input_embedding", "head": "output_head"}


class Several(Entering):
    """Text and features, joined as tokens of one stream."""

    def __init__(self) -> None:
        super().__init__()
        self.text = nn.Embedding(WORDS, WIDTH)

    def entering(self, *given: Tensor) -> Tensor:
        return torch.cat([self.text(given[1]), self.embed(given[0])], dim=1)


class SeveralScattered(Several):
    """Features take the places of some tokens, as images do in a language model."""

    def entering(self, *given: Tensor) -> Tensor:
        x = self.text(given[1])
        here = torch.zeros(BATCH, TOKENS, 1).bool()
        return x.masked_scatter(here, self.embed(given[0]))


class SeveralWhere(Several):
    def entering(self, *given: Tensor) -> Tensor:
        return torch.where(torch.arange(TOKENS)[:, None] < 2, self.embed(given[0]), self.text(given[1]))


@pytest.mark.parametrize("model", [Several, SeveralScattered, SeveralWhere])
def test_several_inputs(roles_of: RolesOf, model: type[Entering]) -> None:
    ends = {"embed": "input_embedding", "text": "input_embedding", "head": "output_head"}
    assert roles_of(model(), tokens(), words()) == INSIDE | ends


@dataclass
class Batch:
    features: Tensor
    more: dict[str, list[Tensor]]


class Pair(NamedTuple):
    features: Tensor
    more: dict[str, list[Tensor]]


class Listed(Entering):
    """Two lists: of images' features, and of pairs."""

    def entering(self, *given: Any) -> Tensor:
        (first, second), pairs = given
        return self.embed(first) + self.embed(second) + sum(self.embed(a * b) for a, b in pairs)


def test_lists_of_inputs(roles_of: RolesOf) -> None:
    given = [tokens(), tokens()], [(tokens(), tokens()), (tokens(), torch.ones(1))]
    assert roles_of(Listed(), *given) == INSIDE | {"embed": "input_embedding", "head": "output_head"}


class Unpacked(Entering):
    def entering(self, *given: Any) -> Tensor:
        return self.embed(given[0].features) + self.embed(given[0].more["other"][1])


@pytest.mark.parametrize("container", [Batch, Pair])
def test_nested_inputs(roles_of: RolesOf, container: Any) -> None:
    given = container(tokens(), {"other": [words(), tokens()]})
    assert roles_of(Unpacked(), given) == INSIDE | {"embed": "input_embedding", "head": "output_head"}
