"""Attention, in the spellings that people write it in.

Each expectation was read from the definition of the roles.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from einops import einsum, rearrange, repeat
from torch import Tensor, nn
from torch.nn import functional as F

BATCH, TOKENS, FEATURES, HEADS, SIZE, OUT = 3, 5, 7, 2, 8, 10
WIDTH = HEADS * SIZE
RolesOf = Callable[..., dict[str, str]]

ENDS = {"embed": "input_embedding", "norm": "norm", "head": "output_head"}
OUTPUT = {"blocks.*.norm": "norm", "blocks.*.o": "attention_output residual_output"}
PARTS = {"blocks.*.q": "attention_query", "blocks.*.k": "attention_key", "blocks.*.v": "attention_value"}
SEPARATE = ENDS | OUTPUT | PARTS
FUSED = ENDS | OUTPUT | {"blocks.*.qkv": "attention_qkv"}


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


class Separate(nn.Module):
    """Queries, keys and values from three linears; subclasses say how they attend."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(WIDTH)
        self.q, self.k, self.v, self.o = (nn.Linear(WIDTH, WIDTH) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        h = self.norm(x)
        q, k, v = (heads(made) for made in (self.q(h), self.k(h), self.v(h)))
        return x + self.o(joined(self.attend(q, k, v)))

    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """All are (batch, heads, tokens, size)."""
        return F.scaled_dot_product_attention(q, k, v)


def heads(x: Tensor) -> Tensor:
    return x.view(*x.shape[:2], -1, SIZE).transpose(1, 2)


def joined(x: Tensor) -> Tensor:
    return x.transpose(1, 2).flatten(2)


def causal() -> Tensor:
    return torch.ones(TOKENS, TOKENS).tril().bool()


class Matmul(Separate):
    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        scores = torch.matmul(q, k.transpose(-1, -2)) / math.sqrt(SIZE)
        return torch.matmul(torch.softmax(scores, dim=-1), v)


class Operator(Separate):
    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return ((q * SIZE**-0.5) @ k.mT).softmax(-1) @ v


class Einsum(Separate):
    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        scores = torch.einsum("bhid,bhjd->bhij", q, k) * SIZE**-0.5
        return torch.einsum("bhij,bhjd->bhid", scores.softmax(dim=-1), v)


class NamedEinsum(Separate):
    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        scores = einsum(q, k, "b h i d, b h j d -> b h i j") / SIZE**0.5
        return einsum(F.softmax(scores, dim=-1), v, "b h i j, b h j d -> b h i d")


class Bmm(Separate):
    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        q, k, v = (made.reshape(-1, TOKENS, SIZE) for made in (q, k, v))
        return torch.bmm(F.softmax(torch.bmm(q, k.transpose(1, 2)), -1), v).view(BATCH, HEADS, TOKENS, SIZE)


class Alibi(Separate):
    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        distance = torch.arange(TOKENS)[None] - torch.arange(TOKENS)[:, None]
        bias = (distance * torch.tensor([0.5, 0.25])[:, None, None]).repeat(BATCH, 1, 1)
        scores = torch.baddbmm(bias, q.flatten(0, 1), k.flatten(0, 1).mT, beta=1.0, alpha=SIZE**-0.5)
        return torch.bmm(scores.softmax(-1), v.flatten(0, 1)).unflatten(0, (BATCH, HEADS))


class MaskedFill(Separate):
    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        scores = (q @ k.mT).masked_fill(~causal(), float("-inf"))
        return F.dropout(scores.softmax(-1), 0.1, self.training) @ v


class Where(Separate):
    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        scores = torch.where(causal(), q @ k.mT, torch.finfo(q.dtype).min)
        return scores.softmax(-1, dtype=torch.float32).to(q.dtype) @ v


class Additive(Separate):
    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        scores = q @ k.mT
        scores += torch.full((TOKENS, TOKENS), -1e9).triu(1)
        return scores.softmax(-1).matmul(v)


class SoftCap(Separate):
    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return (50 * torch.tanh(q @ k.mT / 50)).softmax(-1) @ v


class Sinks(Separate):
    """A learnt score for each head takes a share of the probabilities, and gives nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.sinks = nn.Parameter(torch.zeros(HEADS))

    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        sinks = self.sinks.view(1, -1, 1, 1).expand(BATCH, -1, TOKENS, 1)
        return torch.cat([q @ k.mT, sinks], dim=-1).softmax(-1)[..., :-1] @ v


class LearntBias(Separate):
    """A table of biases by distance, looked up and added to the scores."""

    def __init__(self) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(HEADS, 2 * TOKENS - 1))

    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        distance = torch.arange(TOKENS)[None] - torch.arange(TOKENS)[:, None] + TOKENS - 1
        return F.scaled_dot_product_attention(q, k, v, attn_mask=self.bias[:, distance])


class OneHeadAfterAnother(Separate):
    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        made = [(a @ b.mT).softmax(-1) @ c for a, b, c in zip(q.unbind(1), k.unbind(1), v.unbind(1), strict=True)]
        return torch.stack(made, dim=1)


class InChunks(Separate):
    """Each pair of queries by itself, written into one buffer."""

    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        out = torch.empty_like(q)
        for start in range(0, TOKENS, 2):
            out[:, :, start : start + 2] = (q[:, :, start : start + 2] @ k.mT).softmax(-1) @ v
        return out


class HalfPrecision(Separate):
    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        scores = (q.float() @ k.float().mT).to(torch.bfloat16)
        return scores.float().softmax(-1).type_as(v) @ v


WRITTEN = [
    *(Matmul, Operator, Einsum, NamedEinsum, Bmm, Alibi, MaskedFill),
    *(Where, Additive, SoftCap, Sinks, LearntBias, OneHeadAfterAnother, InChunks, HalfPrecision),
]


@pytest.mark.parametrize("block", WRITTEN)
def test_the_product_and_its_softmax(roles_of: RolesOf, block: type[Separate]) -> None:
    assert roles_of(Model(block), tokens()) == SEPARATE


# --- queries, keys and values from one linear -------------------------------------------------


class Fused(nn.Module):
    wide = 3 * WIDTH

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(WIDTH)
        self.qkv, self.o = nn.Linear(WIDTH, self.wide, bias=False), nn.Linear(WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.parts(self.qkv(self.norm(x)))
        return x + self.o(joined(F.scaled_dot_product_attention(q, k, v)))

    def parts(self, made: Tensor) -> tuple[Tensor, ...]:
        return tuple(heads(part) for part in made.chunk(3, dim=-1))


class FusedByUnbind(Fused):
    def parts(self, made: Tensor) -> tuple[Tensor, ...]:
        return made.reshape(BATCH, TOKENS, 3, HEADS, SIZE).permute(2, 0, 3, 1, 4).unbind(0)


class FusedByIndex(Fused):
    def parts(self, made: Tensor) -> tuple[Tensor, ...]:
        made = made.reshape(BATCH, TOKENS, 3, HEADS, SIZE).permute(2, 0, 3, 1, 4)
        return made[0], made[1], made[2]


class FusedByRearrange(Fused):
    def parts(self, made: Tensor) -> tuple[Tensor, ...]:
        return tuple(rearrange(made, "b n (three h d) -> three b h n d", three=3, h=HEADS))


class FusedByUnequalSplit(Fused):
    """Both query heads share one key and one value."""

    wide = WIDTH + 2 * SIZE

    def parts(self, made: Tensor) -> tuple[Tensor, ...]:
        q, k, v = made.split([WIDTH, SIZE, SIZE], dim=-1)
        return heads(q), heads(k).expand(-1, HEADS, -1, -1), repeat(v, "b n d -> b h n d", h=HEADS)


class FusedByInterleavedHeads(Fused):
    """Every head's query, key and value lie side by side."""

    def parts(self, made: Tensor) -> tuple[Tensor, ...]:
        return made.view(BATCH, TOKENS, HEADS, 3 * SIZE).transpose(1, 2).tensor_split(3, dim=-1)


class FusedBySlices(Fused):
    def parts(self, made: Tensor) -> tuple[Tensor, ...]:
        q, k, v = made[..., :WIDTH], made[..., WIDTH:-WIDTH], made.narrow(-1, 2 * WIDTH, WIDTH)
        return heads(q), heads(k), heads(v)


FUSED_BLOCKS = [
    *(Fused, FusedByUnbind, FusedByIndex, FusedByRearrange, FusedByUnequalSplit, FusedByInterleavedHeads),
    FusedBySlices,
]


@pytest.mark.parametrize("block", FUSED_BLOCKS)
def test_one_linear_for_all(roles_of: RolesOf, block: type[Fused]) -> None:
    assert roles_of(Model(block), tokens()) == FUSED


class KeysAndValues(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(WIDTH)
        self.q, self.kv, self.o = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, 2 * WIDTH), nn.Linear(WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        h = self.norm(x)
        k, v = self.kv(h).unflatten(-1, (2, HEADS, SIZE)).permute(2, 0, 3, 1, 4)
        return x + self.o(joined(F.scaled_dot_product_attention(heads(self.q(h)), k, v)))


def test_one_linear_for_keys_and_values(roles_of: RolesOf) -> None:
    both = {"blocks.*.q": "attention_query", "blocks.*.kv": "attention_key attention_value"}
    assert roles_of(Model(KeysAndValues), tokens()) == ENDS | OUTPUT | both


class MultiQuery(nn.Module):
    """One key and one value for all heads, without a head's axis (Shazeer, arXiv 1911.02150)."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(WIDTH)
        self.q, self.k, self.v = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, SIZE), nn.Linear(WIDTH, SIZE)
        self.o = nn.Linear(WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        h = self.norm(x)
        scores = torch.einsum("bhid,bjd->bhij", heads(self.q(h)), self.k(h))
        return x + self.o(joined(torch.einsum("bhij,bjd->bhid", scores.softmax(-1), self.v(h))))


class GroupedQuery(MultiQuery):
    """Two query heads read one key head, repeated for them."""

    def forward(self, x: Tensor) -> Tensor:
        h = self.norm(x)
        k, v = (heads(made).repeat_interleave(HEADS, dim=1) for made in (self.k(h), self.v(h)))
        return x + self.o(joined(F.scaled_dot_product_attention(heads(self.q(h)), k, v)))


class NativelyGrouped(MultiQuery):
    def forward(self, x: Tensor) -> Tensor:
        h = self.norm(x)
        q, k, v = heads(self.q(h)), heads(self.k(h)), heads(self.v(h))
        return x + self.o(joined(F.scaled_dot_product_attention(q, k, v, enable_gqa=True)))


@pytest.mark.parametrize("block", [MultiQuery, GroupedQuery, NativelyGrouped])
def test_fewer_keys_than_queries(roles_of: RolesOf, block: type[nn.Module]) -> None:
    assert roles_of(Model(block), tokens()) == SEPARATE
