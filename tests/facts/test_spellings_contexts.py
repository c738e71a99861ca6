"""Attention to contexts, by learnt queries and on images.

Each expectation was read from the definition of the roles.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

BATCH, TOKENS, FEATURES, HEADS, SIZE, OUT = 3, 5, 7, 2, 8, 10
WIDTH = HEADS * SIZE
CONTEXT, TEXT = 11, 6
RolesOf = Callable[..., dict[str, str]]

ENDS = {"embed": "input_embedding", "norm": "norm", "head": "output_head"}
OUTPUT = {"blocks.*.norm": "norm", "blocks.*.o": "attention_output residual_output"}
PARTS = {"blocks.*.q": "attention_query", "blocks.*.k": "attention_key", "blocks.*.v": "attention_value"}
SEPARATE = ENDS | OUTPUT | PARTS


class Model(nn.Module):
    """Two blocks between an embedding and a head."""

    def __init__(self, block: type[nn.Module]) -> None:
        super().__init__()
        self.embed = nn.Linear(FEATURES, WIDTH)
        self.blocks = nn.ModuleList(block() for _ in range(2))
        self.norm, self.head = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, OUT)

    def forward(self, x: Tensor, *context: Tensor) -> Tensor:
        x = self.embed(x)
        for block in self.blocks:
            x = block(x, *context)
        return self.head(self.norm(x))


def tokens() -> Tensor:
    return torch.randn(BATCH, TOKENS, FEATURES)


def heads(x: Tensor) -> Tensor:
    return x.view(*x.shape[:2], -1, SIZE).transpose(1, 2)


def joined(x: Tensor) -> Tensor:
    return x.transpose(1, 2).flatten(2)


class Attention(nn.Module):
    """Pre-norm attention; subclasses turn queries and keys, or do something with the result."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(WIDTH)
        self.q, self.k, self.v, self.o = (nn.Linear(WIDTH, WIDTH) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        h = self.norm(x)
        q, k, v = (heads(made) for made in (self.q(h), self.k(h), self.v(h)))
        out = F.scaled_dot_product_attention(self.turned(q), self.turned(k), v)
        return x + self.o(self.finished(joined(out), h))

    def turned(self, q: Tensor) -> Tensor:
        return q

    def finished(self, out: Tensor, h: Tensor) -> Tensor:
        return out


class Cross(Attention):
    """Keys and values come from a context."""

    def __init__(self) -> None:
        super().__init__()
        self.k, self.v = nn.Linear(TEXT, WIDTH), nn.Linear(TEXT, WIDTH)

    def forward(self, x: Tensor, *context: Tensor) -> Tensor:
        q, k, v = heads(self.q(self.norm(x))), heads(self.k(context[0])), heads(self.v(context[0]))
        return x + self.o(joined(F.scaled_dot_product_attention(q, k, v)))


class CrossByEinsum(Cross):
    def forward(self, x: Tensor, *context: Tensor) -> Tensor:
        q, k, v = heads(self.q(self.norm(x))), heads(self.k(context[0])), heads(self.v(context[0]))
        return x + self.o(joined(torch.einsum("bhij,bhjd->bhid", torch.einsum("bhid,bhjd->bhij", q, k).softmax(-1), v)))


class CrossMasked(Cross):
    """The context comes with a mask of its tokens."""

    def forward(self, x: Tensor, *context: Tensor) -> Tensor:
        mask = torch.ones(BATCH, CONTEXT).bool()
        q, k, v = heads(self.q(self.norm(x))), heads(self.k(context[0])), heads(self.v(context[0]))
        return x + self.o(joined(F.scaled_dot_product_attention(q, k, v, attn_mask=mask[:, None, None])))


@pytest.mark.parametrize("block", [Cross, CrossByEinsum, CrossMasked])
def test_a_context_that_enters_without_an_embedding(roles_of: RolesOf, block: type[Attention]) -> None:
    assert roles_of(Model(block), tokens(), torch.randn(BATCH, CONTEXT, TEXT)) == SEPARATE


class Pooled(nn.Module):
    """A learnt query reads all tokens; what it finds goes to the head."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.norm = nn.Linear(FEATURES, WIDTH), nn.LayerNorm(WIDTH)
        self.query = nn.Parameter(torch.randn(1, 1, WIDTH))
        self.k, self.v, self.o = (nn.Linear(WIDTH, WIDTH) for _ in range(3))
        self.head = nn.Sequential(nn.LayerNorm(WIDTH), nn.Linear(WIDTH, OUT))

    def attend(self, h: Tensor) -> Tensor:
        q = self.query.expand(h.shape[0], -1, -1)
        return self.o(joined(F.scaled_dot_product_attention(heads(q), heads(self.k(h)), heads(self.v(h)))))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.attend(self.norm(self.embed(x))).squeeze(1))


POOLED = {"embed": "input_embedding", "norm": "norm", "head.0": "norm", "head.1": "output_head"} | {
    "k": "attention_key",
    "v": "attention_value",
    "o": "attention_output",
}


@pytest.mark.parametrize(
    ("model", "more"),
    [
        (Pooled, {}),
    ],
)
def test_a_pool_with_a_learnt_query(roles_of: RolesOf, model: type[Pooled], more: dict[str, str]) -> None:
    assert roles_of(model(), tokens()) == POOLED | more


class OnPixels(nn.Module):
    """Attention between pixels by pointwise convolutions, as in the first latent autoencoders."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(4, WIDTH)
        self.q, self.k, self.v, self.o = (nn.Conv2d(WIDTH, WIDTH, 1) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        h = self.norm(x)
        q, k, v = self.q(h).flatten(2).permute(0, 2, 1), self.k(h).flatten(2), self.v(h).flatten(2)
        weights = F.softmax(torch.bmm(q, k) * WIDTH**-0.5, dim=2).permute(0, 2, 1)
        return x + self.o(torch.bmm(v, weights).view_as(x))


class OnChannels(OnPixels):
    """Between channels: a score for each pair of them (Zamir et al., arXiv 2111.09881)."""

    def forward(self, x: Tensor) -> Tensor:
        h = self.norm(x)
        q, k, v = (rearrange(made(h), "b (h c) y x -> b h c (y x)", h=HEADS) for made in (self.q, self.k, self.v))
        out = (F.normalize(q, dim=-1) @ F.normalize(k, dim=-1).transpose(-2, -1)).softmax(-1) @ v
        return x + self.o(rearrange(out, "b h c (y x) -> b (h c) y x", y=x.shape[2]))


class Pixels(nn.Module):
    def __init__(self, block: type[nn.Module]) -> None:
        super().__init__()
        self.embed, self.head = nn.Conv2d(FEATURES, WIDTH, 3), nn.Conv2d(WIDTH, OUT, 3)
        self.blocks = nn.ModuleList(block() for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x)
        for block in self.blocks:
            x = block(x)
        return self.head(x)


@pytest.mark.parametrize("block", [OnPixels, OnChannels])
def test_images(roles_of: RolesOf, block: type[nn.Module]) -> None:
    expected = {key: value for key, value in SEPARATE.items() if key != "norm"}
    assert roles_of(Pixels(block), torch.randn(BATCH, FEATURES, 8, 9)) == expected


class MultiHead(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm, self.attn = nn.LayerNorm(WIDTH), nn.MultiheadAttention(WIDTH, HEADS, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        h = self.norm(x)
        return x + self.attn(h, h, h, need_weights=False)[0]


def test_the_module_of_torch(roles_of: RolesOf) -> None:
    expected = {
        "blocks.*.norm": "norm",
        "blocks.*.attn": "attention_qkv",
        "blocks.*.attn.out_proj": "attention_output residual_output",
    }
    assert roles_of(Model(MultiHead), tokens()) == ENDS | expected
