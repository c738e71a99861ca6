"""Layers of the field that are put together in their own way, written small.

Each expectation was read from the definition of the roles.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

BATCH, TOKENS, FEATURES, HEADS, SIZE, INNER, OUT = 3, 5, 7, 2, 8, 24, 10
WIDTH = HEADS * SIZE
RolesOf = Callable[..., dict[str, str]]

ENDS = {"embed": "input_embedding", "norm": "norm", "head": "output_head"}
BRANCH = {"blocks.*.up": "feedforward_in", "blocks.*.down": "feedforward_out residual_output"}
ATTENTION = {
    "blocks.*.q": "attention_query",
    "blocks.*.k": "attention_key",
    "blocks.*.v": "attention_value",
    "blocks.*.o": "attention_output residual_output",
}
NORM = {"blocks.*.norm": "norm"}


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


def heads(x: Tensor) -> Tensor:
    return x.unflatten(-1, (HEADS, SIZE)).transpose(1, 2)


def joined(x: Tensor) -> Tensor:
    return x.transpose(1, 2).flatten(2)


# --- feed-forward -----------------------------------------------------------------------------


class Mixer(nn.Module):
    """Two linears over the tokens, two over the features (Tolstikhin et al., arXiv 2105.01601)."""

    def __init__(self) -> None:
        super().__init__()
        self.norms = nn.ModuleDict({"over": nn.LayerNorm(WIDTH), "along": nn.LayerNorm(WIDTH)})
        self.over = nn.ModuleDict({"up": nn.Linear(TOKENS, 9), "down": nn.Linear(9, TOKENS)})
        self.up, self.down = nn.Linear(WIDTH, INNER), nn.Linear(INNER, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        h = self.norms["over"](x).transpose(1, 2)
        x = x + self.over["down"](F.gelu(self.over["up"](h))).transpose(1, 2)
        return x + self.down(F.gelu(self.up(self.norms["along"](x))))


def test_mixing_tokens_and_features(roles_of: RolesOf) -> None:
    more = {
        "blocks.*.norms.over": "norm",
        "blocks.*.norms.along": "norm",
        "blocks.*.over.up": "feedforward_in",
        "blocks.*.over.down": "feedforward_out residual_output",
    }
    assert roles_of(Model(Mixer), tokens()) == ENDS | BRANCH | more


class ConvNext(nn.Module):
    """A convolution of each channel, then two linears (Liu et al., arXiv 2201.03545)."""

    def __init__(self) -> None:
        super().__init__()
        self.each = nn.Conv1d(WIDTH, WIDTH, 7, padding=3, groups=WIDTH)
        self.norm, self.up, self.down = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, INNER), nn.Linear(INNER, WIDTH)
        self.gamma = nn.Parameter(torch.full((WIDTH,), 1e-6))

    def forward(self, x: Tensor) -> Tensor:
        h = self.each(x.transpose(1, 2)).transpose(1, 2)
        return x + self.gamma * self.down(F.gelu(self.up(self.norm(h))))


class Inverted(nn.Module):
    """Wide, a convolution of each channel, narrow (Sandler et al., arXiv 1801.04381)."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(WIDTH)
        self.up, self.down = nn.Conv1d(WIDTH, INNER, 1), nn.Conv1d(INNER, WIDTH, 1)
        self.each = nn.Conv1d(INNER, INNER, 3, padding=1, groups=INNER)

    def forward(self, x: Tensor) -> Tensor:
        h = F.silu(self.up(self.norm(x).transpose(1, 2)))
        return x + self.down(F.silu(self.each(h))).transpose(1, 2)


class Conformer(Inverted):
    """A gated unit, a convolution of each channel, a norm of the batch, a pointwise convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.up, self.between = nn.Conv1d(WIDTH, 2 * INNER, 1), nn.BatchNorm1d(INNER)

    def forward(self, x: Tensor) -> Tensor:
        h = F.glu(self.up(self.norm(x).transpose(1, 2)), dim=1)
        return x + self.down(F.silu(self.between(self.each(h)))).transpose(1, 2)


@pytest.mark.parametrize(("block", "more"), [(ConvNext, {}), (Inverted, {}), (Conformer, {"blocks.*.between": "norm"})])
def test_convolutions_of_each_channel_are_no_layer(
    roles_of: RolesOf, block: type[nn.Module], more: dict[str, str]
) -> None:
    assert roles_of(Model(block), tokens()) == ENDS | BRANCH | NORM | more


class InALoop(nn.Module):
    """The layers of the branch in a list."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(WIDTH)
        self.layers = nn.ModuleDict({"up": nn.Linear(WIDTH, INNER), "act": nn.GELU(), "down": nn.Linear(INNER, WIDTH)})

    def forward(self, x: Tensor) -> Tensor:
        h = self.norm(x)
        for layer in self.layers.values():
            h = layer(h)
        return x + h


def test_layers_in_a_loop(roles_of: RolesOf) -> None:
    more = {"blocks.*.layers.up": "feedforward_in", "blocks.*.layers.down": "feedforward_out residual_output"}
    assert roles_of(Model(InALoop), tokens()) == ENDS | NORM | more


# --- attention --------------------------------------------------------------------------------


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(WIDTH)
        self.q, self.k, self.v, self.o = (nn.Linear(WIDTH, WIDTH) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        h = self.norm(x)
        return x + self.o(joined(self.attend(heads(self.q(h)), heads(self.k(h)), heads(self.v(h)))))

    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return F.scaled_dot_product_attention(q, k, v)


class Prefix(Attention):
    """Learnt keys and values stand before the others."""

    def __init__(self) -> None:
        super().__init__()
        self.before = nn.Parameter(torch.randn(2, 1, HEADS, 4, SIZE))

    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        k, v = (torch.cat([p.expand(BATCH, -1, -1, -1), x], dim=2) for p, x in zip(self.before, (k, v), strict=True))
        return (q @ k.mT).softmax(-1) @ v


class Cached(Attention):
    """Keys and values are written into a buffer, from which the attention reads."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("keys", torch.zeros(BATCH, HEADS, 9, SIZE), persistent=False)
        self.register_buffer("values", torch.zeros(BATCH, HEADS, 9, SIZE), persistent=False)

    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        keys, values = self.keys.clone(), self.values.clone()
        keys[:, :, :TOKENS], values[:, :, :TOKENS] = k, v
        return F.scaled_dot_product_attention(q, keys[:, :, :TOKENS], values[:, :, :TOKENS])


class CachedByIndex(Cached):
    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        here = torch.arange(TOKENS)
        return F.scaled_dot_product_attention(q, self.keys.index_copy(2, here, k), self.values.index_copy(2, here, v))


class Biased(Attention):
    """Learnt biases on the queries, and a learnt table of distances (Shaw et al., arXiv 1803.02155)."""

    def __init__(self) -> None:
        super().__init__()
        self.bias, self.distances = nn.Parameter(torch.zeros(HEADS, 1, SIZE)), nn.Parameter(torch.randn(9, SIZE))

    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        far = self.distances[torch.arange(TOKENS)[None] - torch.arange(TOKENS)[:, None] + 4]
        scores = (q + self.bias) @ k.mT + torch.einsum("bhid,ijd->bhij", q, far)
        return (scores / SIZE**0.5).softmax(-1) @ v


class Sparse(Attention):
    """Only the three best scores of each query count."""

    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        scores = q @ k.mT
        worst = scores.topk(3, dim=-1).values[..., -1:]
        return scores.masked_fill(scores < worst, -torch.inf).softmax(-1) @ v


class Differential(Attention):
    """The difference of two softmaxes (Ye et al., arXiv 2410.05258)."""

    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        (a, b), (c, d) = q.chunk(2, dim=-1), k.chunk(2, dim=-1)
        return ((a @ c.mT).softmax(-1) - 0.2 * (b @ d.mT).softmax(-1)) @ v


class OffByOne(Attention):
    """A softmax whose weights may sum to less than one."""

    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        scores = F.pad(q @ k.mT, (1, 0))
        return scores.softmax(-1)[..., 1:] @ v


class Windows(Attention):
    """Attention within groups of tokens, rolled by one."""

    def forward(self, x: Tensor) -> Tensor:
        h = F.pad(self.norm(x), (0, 0, 0, 1)).roll(-1, dims=1).reshape(2 * BATCH, 3, WIDTH)
        made = joined(self.attend(heads(self.q(h)), heads(self.k(h)), heads(self.v(h))))
        return x + self.o(made.reshape(BATCH, 6, WIDTH).roll(1, dims=1)[:, :TOKENS])


class TanhGated(Attention):
    """A learnt gate that starts as zero (Alayrac et al., arXiv 2204.14198)."""

    def __init__(self) -> None:
        super().__init__()
        self.alpha = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.alpha.tanh() * (super().forward(x) - x)


class TwiceInARow(Attention):
    """The same attention twice, over rows and over columns of the tokens."""

    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return F.scaled_dot_product_attention(q, k, v) + F.scaled_dot_product_attention(q, k.flip(2), v.flip(2))


class ShiftedTokens(Attention):
    """Each token sees a learnt share of the one before it (Peng et al., arXiv 2305.13048)."""

    def __init__(self) -> None:
        super().__init__()
        self.share = nn.Parameter(torch.rand(3, 1, 1, WIDTH))

    def forward(self, x: Tensor) -> Tensor:
        h = self.norm(x)
        q, k, v = torch.lerp(h, F.pad(h, (0, 0, 1, -1)), self.share)
        return x + self.o(joined(self.attend(heads(self.q(q)), heads(self.k(k)), heads(self.v(v)))))


ATTENTIONS = [
    *(Attention, Prefix, Cached, CachedByIndex, Biased, Sparse, Differential, OffByOne, Windows, TanhGated),
    *(TwiceInARow, ShiftedTokens),
]


@pytest.mark.parametrize("block", ATTENTIONS)
def test_attentions(roles_of: RolesOf, block: type[Attention]) -> None:
    assert roles_of(Model(block), tokens()) == ENDS | NORM | ATTENTION


class Joint(nn.Module):
    """Two streams attend to each other's tokens, each with weights of its own (Esser et al., arXiv 2403.03206)."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.other = Attention(), Attention()

    def forward(self, both: tuple[Tensor, Tensor]) -> tuple[Tensor, ...]:
        normed = [side.norm(x) for side, x in zip((self.one, self.other), both, strict=True)]
        made = []
        for name in ("q", "k", "v"):
            parts = [heads(getattr(side, name)(h)) for side, h in zip((self.one, self.other), normed, strict=True)]
            made.append(torch.cat(parts, dim=2))
        out = joined(F.scaled_dot_product_attention(*made)).split([both[0].shape[1], both[1].shape[1]], dim=1)
        return both[0] + self.one.o(out[0]), both[1] + self.other.o(out[1])


class JointModel(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed, self.text = nn.Linear(FEATURES, WIDTH), nn.Linear(6, WIDTH)
        self.blocks = nn.ModuleList(Joint() for _ in range(3))
        self.norm, self.head = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, OUT)

    def forward(self, x: Tensor, text: Tensor) -> Tensor:
        both = self.embed(x), self.text(text)
        for block in self.blocks:
            both = block(both)
        return self.head(self.norm(torch.cat(both, dim=1)))


def test_two_streams_that_attend_to_each_other(roles_of: RolesOf) -> None:
    sides = {
        path.replace("*.", f"*.{side}."): roles
        for side in ("one", "other")
        for path, roles in (NORM | ATTENTION).items()
    }
    expected = ENDS | sides | {"text": "input_embedding"}
    assert roles_of(JointModel(), tokens(), torch.randn(BATCH, 11, 6)) == expected
