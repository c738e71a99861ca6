"""What stands around attention: rotations, norms, gates, talking heads, low rank.

Each expectation was read from the definition of the roles.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from einops import rearrange, repeat
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


def angles() -> Tensor:
    return torch.arange(TOKENS)[:, None] * torch.arange(SIZE // 2)


class RotaryByHalves(Attention):
    def turned(self, q: Tensor) -> Tensor:
        both = torch.cat([angles(), angles()], dim=-1)
        first, second = q.chunk(2, dim=-1)
        return q * both.cos() + torch.cat([-second, first], dim=-1) * both.sin()


class RotaryByPairs(Attention):
    def turned(self, q: Tensor) -> Tensor:
        even, odd, cos, sin = q[..., ::2], q[..., 1::2], angles().cos(), angles().sin()
        return torch.stack([even * cos - odd * sin, odd * cos + even * sin], dim=-1).flatten(-2)


class RotaryByComplexNumbers(Attention):
    def turned(self, q: Tensor) -> Tensor:
        turn = torch.polar(torch.ones(TOKENS, SIZE // 2), angles().float())
        pairs = torch.view_as_complex(q.float().reshape(*q.shape[:-1], -1, 2))
        return torch.view_as_real(pairs * turn).flatten(-2).type_as(q)


class RotaryByEinops(Attention):
    def turned(self, q: Tensor) -> Tensor:
        first, second = rearrange(q, "... (d two) -> ... d two", two=2).unbind(-1)
        turned = rearrange(torch.stack((-second, first), dim=-1), "... d two -> ... (d two)")
        both = repeat(angles(), "n d -> n (d two)", two=2)
        return q * both.cos() + turned * both.sin()


class RotaryInPart(Attention):
    """Only the first half of each head is turned."""

    def turned(self, q: Tensor) -> Tensor:
        turned, kept = q.split([SIZE // 2, SIZE // 2], dim=-1)
        cos, sin = angles()[:, ::2].cos(), angles()[:, ::2].sin()
        a, b = turned.chunk(2, dim=-1)
        return torch.cat([a * cos - b * sin, b * cos + a * sin, kept], dim=-1)


class RotaryInPlace(Attention):
    def turned(self, q: Tensor) -> Tensor:
        q = q.clone()
        a, b = q[..., : SIZE // 2].clone(), q[..., SIZE // 2 :].clone()
        q[..., : SIZE // 2] = a * angles().cos() - b * angles().sin()
        q[..., SIZE // 2 :] = b * angles().cos() + a * angles().sin()
        return q


class CosineSimilarity(Attention):
    """Queries and keys of length one, and a temperature."""

    def __init__(self) -> None:
        super().__init__()
        self.temperature = nn.Parameter(torch.ones(HEADS, 1, 1))

    def turned(self, q: Tensor) -> Tensor:
        return F.normalize(q, dim=-1) * self.temperature.sqrt()


class LengthWrittenOut(Attention):
    def turned(self, q: Tensor) -> Tensor:
        return q / q.norm(dim=-1, keepdim=True).clamp(min=1e-6)


TURNED = [
    *(
        Attention,
        RotaryByHalves,
        RotaryByPairs,
        RotaryByComplexNumbers,
        RotaryByEinops,
    ),
    *(RotaryInPart, RotaryInPlace, CosineSimilarity, LengthWrittenOut),
]


@pytest.mark.parametrize("block", TURNED)
def test_what_is_done_to_queries_and_keys(roles_of: RolesOf, block: type[Attention]) -> None:
    assert roles_of(Model(block), tokens()) == SEPARATE


class NormedQueries(Attention):
    def __init__(self) -> None:
        super().__init__()
        self.norms = nn.ModuleDict({"q": nn.RMSNorm(SIZE), "k": nn.RMSNorm(SIZE)})

    def forward(self, x: Tensor) -> Tensor:
        h = self.norm(x)
        q, k, v = self.norms["q"](heads(self.q(h))), self.norms["k"](heads(self.k(h))), heads(self.v(h))
        return x + self.o(joined((q @ k.mT).softmax(-1) @ v))


def test_norms_of_queries_and_keys(roles_of: RolesOf) -> None:
    expected = SEPARATE | {"blocks.*.norms.q": "norm", "blocks.*.norms.k": "norm"}
    assert roles_of(Model(NormedQueries), tokens()) == expected


# --- gates on the result ----------------------------------------------------------------------


class ChannelGate(Attention):
    def __init__(self) -> None:
        super().__init__()
        self.gate = nn.Linear(WIDTH, WIDTH)

    def finished(self, out: Tensor, h: Tensor) -> Tensor:
        return out * torch.sigmoid(self.gate(h))


class SiluGate(ChannelGate):
    def finished(self, out: Tensor, h: Tensor) -> Tensor:
        return F.silu(self.gate(h)) * out


class HeadGate(ChannelGate):
    def __init__(self) -> None:
        super().__init__()
        self.gate = nn.Linear(WIDTH, HEADS)

    def finished(self, out: Tensor, h: Tensor) -> Tensor:
        return (out.unflatten(-1, (HEADS, SIZE)) * self.gate(h).sigmoid()[..., None]).flatten(-2)


class HeadGateByRepeat(HeadGate):
    def finished(self, out: Tensor, h: Tensor) -> Tensor:
        return out * repeat(self.gate(h).sigmoid(), "b n h -> b n (h d)", d=SIZE)


class HeadGateByEinsum(HeadGate):
    def finished(self, out: Tensor, h: Tensor) -> Tensor:
        apart = rearrange(out, "b n (h d) -> b n h d", h=HEADS)
        return torch.einsum("bnhd,bnh->bnhd", apart, self.gate(h).tanh()).reshape(out.shape)


@pytest.mark.parametrize("block", [ChannelGate, SiluGate, HeadGate, HeadGateByRepeat, HeadGateByEinsum])
def test_a_gate_on_the_result_has_no_role(roles_of: RolesOf, block: type[Attention]) -> None:
    assert roles_of(Model(block), tokens()) == SEPARATE


class LowRank(Attention):
    """Queries, keys and values through a bottleneck each (DeepSeek-AI, arXiv 2405.04434)."""

    def __init__(self) -> None:
        super().__init__()
        self.q_down, self.kv_down = nn.Linear(WIDTH, 4), nn.Linear(WIDTH, 6)
        self.q, self.k, self.v = nn.Linear(4, WIDTH), nn.Linear(6, WIDTH), nn.Linear(6, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        h = self.norm(x)
        latent = self.kv_down(h)
        q, k, v = heads(self.q(self.q_down(h))), heads(self.k(latent)), heads(self.v(latent))
        return x + self.o(joined(F.scaled_dot_product_attention(q, k, v)))


class LowRankWithNorms(LowRank):
    """The bottlenecks are normalised, without parameters."""

    def forward(self, x: Tensor) -> Tensor:
        h = self.norm(x)
        latent = F.rms_norm(self.kv_down(h), (6,))
        q, k, v = heads(self.q(F.rms_norm(self.q_down(h), (4,)))), heads(self.k(latent)), heads(self.v(latent))
        return x + self.o(joined((q @ k.mT).softmax(-1) @ v))


@pytest.mark.parametrize("block", [LowRank, LowRankWithNorms])
def test_down_projections_have_no_role(roles_of: RolesOf, block: type[Attention]) -> None:
    assert roles_of(Model(block), tokens()) == SEPARATE
