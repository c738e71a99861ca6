"""One block, its functions called in every way that Python and torch have: keywords, `out=`, scripted, compiled.

Each expectation was read from the definition of the roles.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from einops.layers.torch import Rearrange
from torch import Tensor, nn
from torch.nn import functional as F

BATCH, TOKENS, FEATURES, HEADS, SIZE, INNER, TIME, OUT = 3, 5, 7, 2, 8, 24, 12, 10
WIDTH = HEADS * SIZE
RolesOf = Callable[..., dict[str, str]]

ROLES = {
    "embed": "input_embedding",
    "time": "conditioning",
    "blocks.*.make": "modulation",
    "blocks.*.norm": "norm",
    "blocks.*.q": "attention_query",
    "blocks.*.k": "attention_key",
    "blocks.*.v": "attention_value",
    "blocks.*.o": "attention_output residual_output",
    "blocks.*.again": "norm",
    "blocks.*.up": "feedforward_in",
    "blocks.*.down": "feedforward_out residual_output",
    "norm": "norm",
    "head": "output_head",
}


class Block(nn.Module):
    """Modulated attention and a feed-forward; subclasses call the same functions in other ways."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.again = nn.LayerNorm(WIDTH, elementwise_affine=False), nn.LayerNorm(WIDTH)
        self.make = nn.Linear(TIME, 3 * WIDTH)
        self.q, self.k, self.v, self.o = (nn.Linear(WIDTH, WIDTH) for _ in range(4))
        self.up, self.down = nn.Linear(WIDTH, INNER), nn.Linear(INNER, WIDTH)

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        scale, shift, gate = self.make(F.silu(t))[:, None].chunk(3, dim=-1)
        h = self.modulated(self.norm(x), scale, shift)
        q, k, v = (made.unflatten(-1, (HEADS, SIZE)).transpose(1, 2) for made in (self.q(h), self.k(h), self.v(h)))
        x = self.gated(x, gate, self.o(self.attend(q, k, v).transpose(1, 2).flatten(2)))
        return self.added(x, self.down(self.activated(self.up(self.again(x)))))

    def modulated(self, h: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
        return h * (1 + scale) + shift

    def gated(self, x: Tensor, gate: Tensor, h: Tensor) -> Tensor:
        return x + gate * h

    def added(self, x: Tensor, h: Tensor) -> Tensor:
        return x + h

    def activated(self, h: Tensor) -> Tensor:
        return F.gelu(h)

    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return F.scaled_dot_product_attention(q, k, v)


class Model(nn.Module):
    def __init__(self, block: type[nn.Module]) -> None:
        super().__init__()
        self.embed, self.time = nn.Linear(FEATURES, WIDTH), nn.Linear(TIME, TIME)
        self.blocks = nn.ModuleList(block() for _ in range(2))
        self.norm, self.head = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, OUT)

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        angles = t[:, None] * torch.arange(TIME // 2)
        x, t = self.embed(x), self.time(torch.cat([angles.sin(), angles.cos()], dim=-1))
        for block in self.blocks:
            x = block(x, t)
        return self.head(self.norm(x))


def inputs() -> tuple[Tensor, Tensor]:
    return torch.randn(BATCH, TOKENS, FEATURES), torch.rand(BATCH)


class KeywordsInAnyOrder(Block):
    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return F.scaled_dot_product_attention(value=v, key=k, query=q)

    def gated(self, x: Tensor, gate: Tensor, h: Tensor) -> Tensor:
        return torch.addcmul(tensor2=h, tensor1=gate, input=x)


class MaskBeforeValue(Block):
    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return F.scaled_dot_product_attention(q, k, attn_mask=torch.zeros(TOKENS, TOKENS), value=v)


class FilledByWhere(Block):
    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        scores = torch.where(other=torch.tensor(-1e9), input=q @ k.mT, condition=torch.ones(TOKENS, TOKENS).bool())
        return torch.matmul(other=v, input=torch.softmax(input=scores, dim=-1))


class IntoOut(Block):
    """Results are written into tensors that are there already."""

    def added(self, x: Tensor, h: Tensor) -> Tensor:
        made = torch.empty_like(x).detach()
        with torch.no_grad():
            return torch.add(x, h, out=made)


class CopiedInto(Block):
    def added(self, x: Tensor, h: Tensor) -> Tensor:
        made = torch.zeros(x.shape)
        made.copy_(x)
        return made.add_(h)


class Unbound(Block):
    """Methods of the class, called with the tensor as the first argument."""

    def modulated(self, h: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
        return Tensor.add(Tensor.mul(h, Tensor.__radd__(scale, 1)), shift)

    def added(self, x: Tensor, h: Tensor) -> Tensor:
        return Tensor.__add__(x, h)


class ByPartial(Block):
    def activated(self, h: Tensor) -> Tensor:
        return partial(F.gelu, approximate="tanh")(h)


class ByAten(Block):
    """The operators below the functions."""

    def modulated(self, h: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
        return torch.ops.aten.add.Tensor(torch.ops.aten.mul.Tensor(h, 1 + scale), shift)

    def activated(self, h: Tensor) -> Tensor:
        return torch.ops.aten.gelu.default(h)


class OwnActivation(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, h: Tensor) -> Tensor:
        ctx.save_for_backward(h)
        return h * torch.sigmoid(h)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        (h,) = ctx.saved_tensors
        slope = torch.sigmoid(h)
        return gradients[0] * (slope + h * slope * (1 - slope))


class ByOwnFunction(Block):
    def activated(self, h: Tensor) -> Tensor:
        return OwnActivation.apply(h)


@torch.jit.script
def scripted_modulation(h: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    return h * (1 + scale) + shift


@torch.jit.script
def scripted_gate(x: Tensor, gate: Tensor, h: Tensor) -> Tensor:
    return x + gate * h


class Scripted(Block):
    """Functions fused by TorchScript, as in many diffusion transformers of text."""

    def modulated(self, h: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
        return scripted_modulation(h, scale, shift)

    def gated(self, x: Tensor, gate: Tensor, h: Tensor) -> Tensor:
        return scripted_gate(x, gate, h)


@torch.compile
def compiled_modulation(h: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    return h * (1 + scale) + shift


class Compiled(Block):
    def modulated(self, h: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
        return compiled_modulation(h, scale, shift)


class WithLayers(Block):
    """Every reshaping and activation is a module."""

    def __init__(self) -> None:
        super().__init__()
        self.apart = Rearrange("b n (h d) -> b h n d", h=HEADS)
        self.together = Rearrange("b h n d -> b n (h d)")
        self.inner = nn.Sequential(nn.Identity(), nn.GELU(), nn.Dropout(0.1))

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        scale, shift, gate = self.make(F.silu(t))[:, None].chunk(3, dim=-1)
        h = self.modulated(self.norm(x), scale, shift)
        made = self.attend(self.apart(self.q(h)), self.apart(self.k(h)), self.apart(self.v(h)))
        x = self.gated(x, gate, self.o(self.together(made)))
        return self.added(x, self.down(self.inner(self.up(self.again(x)))))


CALLS = [
    *(Block, KeywordsInAnyOrder, MaskBeforeValue, FilledByWhere, IntoOut, CopiedInto, Unbound, ByPartial, ByAten),
    *(ByOwnFunction, Scripted, Compiled, WithLayers),
]


@pytest.mark.parametrize("block", CALLS)
def test_ways_to_call_a_function(roles_of: RolesOf, block: type[Block]) -> None:
    assert roles_of(Model(block), *inputs()) == ROLES
