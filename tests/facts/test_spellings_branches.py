"""Feed-forward branches and experts, in the spellings that people write them in.

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
INSIDE = {"blocks.*.norm": "norm", "blocks.*.down": "feedforward_out residual_output"}
TWO = ENDS | INSIDE | {"blocks.*.up": "feedforward_in"}
THREE = TWO | {"blocks.*.gate": "feedforward_in"}


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
    """A norm and two linears; subclasses say what lies between."""

    wide = INNER

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(WIDTH)
        self.up, self.down = nn.Linear(WIDTH, self.wide), nn.Linear(INNER, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.down(self.between(self.up(self.norm(x))))

    def between(self, h: Tensor) -> Tensor:
        return F.gelu(h)


class Dropout(Block):
    def between(self, h: Tensor) -> Tensor:
        return F.dropout(torch.relu(h), p=0.1, training=self.training)


class Squared(Block):
    def between(self, h: Tensor) -> Tensor:
        return F.relu(h).square()


class SquaredByItself(Block):
    def between(self, h: Tensor) -> Tensor:
        h = F.relu(h)
        return h * h


class SiluWrittenOut(Block):
    def between(self, h: Tensor) -> Tensor:
        return h * torch.sigmoid(h)


class SigmoidWrittenOut(Block):
    def between(self, h: Tensor) -> Tensor:
        return h / (1 + torch.exp(-1.702 * h))


class TanhGelu(Block):
    """The approximation that the first GPTs wrote out."""

    def between(self, h: Tensor) -> Tensor:
        return 0.5 * h * (1 + torch.tanh(0.7978845608 * (h + 0.044715 * torch.pow(h, 3))))


class ErrorFunctionGelu(Block):
    def between(self, h: Tensor) -> Tensor:
        return h * 0.5 * (1.0 + torch.erf(h / 2**0.5))


class ReluByClamp(Block):
    def between(self, h: Tensor) -> Tensor:
        return h.clamp(min=0)


class ReluByMaximum(Block):
    def between(self, h: Tensor) -> Tensor:
        return torch.maximum(h, torch.zeros_like(h))


class ReluByWhere(Block):
    def between(self, h: Tensor) -> Tensor:
        return torch.where(h > 0, h, 0.01 * h)


class Snake(Block):
    """`h + sin(h) ** 2` (Ziyin et al., arXiv 2006.08195)."""

    def between(self, h: Tensor) -> Tensor:
        return h + torch.sin(h) ** 2


class InPlaceActivation(Block):
    def between(self, h: Tensor) -> Tensor:
        return F.relu(h, inplace=True)


class NormBetween(Block):
    def between(self, h: Tensor) -> Tensor:
        return F.layer_norm(F.gelu(h), (INNER,))


class GlobalResponse(Block):
    """ConvNeXt's response norm, which is no norm of the stream (Woo et al., arXiv 2301.00808)."""

    def between(self, h: Tensor) -> Tensor:
        h = F.gelu(h)
        spread = torch.linalg.vector_norm(h, dim=1, keepdim=True)
        return h + h * (spread / (spread.mean(dim=-1, keepdim=True) + 1e-6))


class Chunked(Block):
    wide = 2 * INNER

    def between(self, h: Tensor) -> Tensor:
        value, gate = h.chunk(2, dim=-1)
        return value * F.gelu(gate)


class ByFunction(Chunked):
    def between(self, h: Tensor) -> Tensor:
        return F.glu(h, dim=-1)


class BySplit(Chunked):
    def between(self, h: Tensor) -> Tensor:
        gate, value = torch.split(h, INNER, dim=-1)
        return F.silu(gate).mul_(value)


class Interleaved(Chunked):
    def between(self, h: Tensor) -> Tensor:
        return h[..., ::2] * torch.sigmoid(1.702 * h[..., ::2]) * (h[..., 1::2] + 1)


class Bilinear(Chunked):
    """Two halves multiplied, without any activation (Shazeer, arXiv 2002.05202)."""

    def between(self, h: Tensor) -> Tensor:
        value, gate = h.unflatten(-1, (2, INNER)).unbind(-2)
        return value * gate


BETWEEN = [
    *(Block, Dropout, Squared, SquaredByItself, SiluWrittenOut, SigmoidWrittenOut, TanhGelu, ErrorFunctionGelu),
    *(ReluByClamp, ReluByMaximum, ReluByWhere, Snake, InPlaceActivation, NormBetween, GlobalResponse),
    *(Chunked, ByFunction, BySplit, Interleaved, Bilinear),
]


@pytest.mark.parametrize("block", BETWEEN)
def test_two_linears(roles_of: RolesOf, block: type[Block]) -> None:
    assert roles_of(Model(block), tokens()) == TWO


class Gated(Block):
    """The gate comes from a linear of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = nn.Linear(WIDTH, INNER)

    def forward(self, x: Tensor) -> Tensor:
        h = self.norm(x)
        return x + self.down(F.silu(self.gate(h)) * self.up(h))


class GatedInPlace(Gated):
    def forward(self, x: Tensor) -> Tensor:
        h = self.norm(x)
        inner = F.silu(self.gate(h), inplace=True)
        inner *= self.up(h)
        x += self.down(inner)
        return x


class GatedByEinsum(Gated):
    def forward(self, x: Tensor) -> Tensor:
        h = self.norm(x)
        return x + self.down(torch.einsum("bni,bni->bni", self.gate(h).tanh(), self.up(h)))


class GatedWithNorm(Gated):
    """The product is normalised before the last linear."""

    def forward(self, x: Tensor) -> Tensor:
        h = self.norm(x)
        return x + self.down(F.rms_norm(self.up(h) * self.gate(h).sigmoid(), (INNER,)))


class GatedByFunction(Gated):
    """Both halves are joined for `glu`."""

    def forward(self, x: Tensor) -> Tensor:
        h = self.norm(x)
        return x + self.down(F.glu(torch.cat([self.up(h), self.gate(h)], dim=-1)))


@pytest.mark.parametrize("block", [Gated, GatedInPlace, GatedByEinsum, GatedWithNorm, GatedByFunction])
def test_three_linears(roles_of: RolesOf, block: type[Gated]) -> None:
    assert roles_of(Model(block), tokens()) == THREE


class Convolved(Block):
    kernel = 3

    def __init__(self) -> None:
        super().__init__()
        self.up = nn.Conv1d(WIDTH, INNER, self.kernel, padding=self.kernel // 2)
        self.down = nn.Conv1d(INNER, WIDTH, self.kernel, padding=self.kernel // 2)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.down(F.gelu(self.up(self.norm(x).transpose(1, 2)))).transpose(1, 2)


class Pointwise(Convolved):
    kernel = 1


class Causal(Convolved):
    """Padded by hand, and cut at the end."""

    def forward(self, x: Tensor) -> Tensor:
        h = F.pad(self.norm(x).mT, (1, 0))
        return x + self.down(F.pad(F.gelu(self.up(h)), (1, 0)))[..., :TOKENS].mT


@pytest.mark.parametrize("block", [Convolved, Pointwise, Causal])
def test_convolutions(roles_of: RolesOf, block: type[Convolved]) -> None:
    assert roles_of(Model(block), tokens()) == TWO


class Parallel(nn.Module):
    """Attention and feed-forward side by side, and one linear for both results."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(WIDTH)
        self.inward, self.out = nn.Linear(WIDTH, 3 * WIDTH + INNER), nn.Linear(WIDTH + INNER, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v, inner = self.inward(self.norm(x)).split([WIDTH, WIDTH, WIDTH, INNER], dim=-1)
        attended = (q @ k.mT / WIDTH**0.5).softmax(-1) @ v
        return x + self.out(torch.cat([attended, F.gelu(inner)], dim=-1))


def test_one_linear_for_attention_and_feed_forward(roles_of: RolesOf) -> None:
    expected = {
        "blocks.*.norm": "norm",
        "blocks.*.inward": "attention_qkv feedforward_in",
        "blocks.*.out": "attention_output feedforward_out residual_output",
    }
    assert roles_of(Model(Parallel), tokens()) == ENDS | expected


class SideBySide(nn.Module):
    """Both branches leave the same norm and are added at once."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.qkv, self.o = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
        self.up, self.down = nn.Linear(WIDTH, INNER), nn.Linear(INNER, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        h = self.norm(x)
        q, k, v = self.qkv(h).chunk(3, dim=-1)
        return x + self.o(F.scaled_dot_product_attention(q, k, v)) + self.down(F.gelu(self.up(h)))


class SideBySideSummed(SideBySide):
    def forward(self, x: Tensor) -> Tensor:
        h = self.norm(x)
        q, k, v = self.qkv(h).chunk(3, dim=-1)
        return x + (self.o(F.scaled_dot_product_attention(q, k, v)) + self.down(F.gelu(self.up(h))))


class SideBySideStacked(SideBySide):
    def forward(self, x: Tensor) -> Tensor:
        h = self.norm(x)
        q, k, v = self.qkv(h).chunk(3, dim=-1)
        return sum([self.o(F.scaled_dot_product_attention(q, k, v)), self.down(F.gelu(self.up(h)))], x)


@pytest.mark.parametrize("block", [SideBySide, SideBySideSummed, SideBySideStacked])
def test_attention_and_feed_forward_side_by_side(roles_of: RolesOf, block: type[nn.Module]) -> None:
    attention = {"blocks.*.qkv": "attention_qkv", "blocks.*.o": "attention_output residual_output"}
    assert roles_of(Model(block), tokens()) == TWO | attention
