"""How a model is run: recomputed, in other precisions, without gradients; and where gradients stop.

Each expectation was read from the definition of the facts, and every gradient is compared with autograd's own.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint, checkpoint_sequential

import surgery

BATCH, TOKENS, WIDTH, INNER = 3, 5, 8, 12
RolesOf = Callable[..., dict[str, str]]

ROLES = {
    "first": "input_embedding",
    "blocks.*.norm": "norm",
    "blocks.*.up": "feedforward_in",
    "blocks.*.down": "feedforward_out residual_output",
    "last": "output_head",
}


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm, self.up, self.down = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, INNER), nn.Linear(INNER, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.down(F.gelu(self.up(self.norm(x))))


class Model(nn.Module):
    """Two blocks; subclasses say how they are run."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH)
        self.blocks = nn.ModuleList(Block() for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        for block in self.blocks:
            x = self.ran(block, x)
        return self.last(x)

    def ran(self, block: nn.Module, x: Tensor) -> Tensor:
        return block(x)


def tokens() -> Tensor:
    return torch.randn(BATCH, TOKENS, WIDTH)


class Recomputed(Model):
    def ran(self, block: nn.Module, x: Tensor) -> Tensor:
        return checkpoint(block, x, use_reentrant=False)


class RecomputedReentrant(Model):
    def ran(self, block: nn.Module, x: Tensor) -> Tensor:
        return checkpoint(block.__call__, x, use_reentrant=True)


class RecomputedByClosure(Model):
    def ran(self, block: nn.Module, x: Tensor) -> Tensor:
        def custom(*given: Tensor) -> Tensor:
            return block(*given)

        return checkpoint(custom, x, use_reentrant=False, preserve_rng_state=False)


class RecomputedTogether(Model):
    def forward(self, x: Tensor) -> Tensor:
        return self.last(checkpoint_sequential(list(self.blocks), 2, self.first(x), use_reentrant=False))


class InHalfPrecision(Model):
    def ran(self, block: nn.Module, x: Tensor) -> Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return block(x)


class WithAutocastOff(Model):
    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            x = self.first(x)
            with torch.autocast("cpu", enabled=False):
                x = self.blocks[0](x.float())
            return self.last(self.blocks[1](x))


class WithGradientsOn(Model):
    def ran(self, block: nn.Module, x: Tensor) -> Tensor:
        with torch.no_grad():
            x.mean()
        with torch.set_grad_enabled(True):
            return block(x)


def gradients(model: nn.Module, given: Tensor) -> dict[str, str]:
    """The answer for every module with parameters, after checking each against a real backward pass."""
    graph = surgery.capture(model, (given,))
    model(given).square().sum().backward()
    found = {}
    for path, module in graph.modules.items():
        if module.parameters:
            reached = [
                p.grad is not None and bool(p.grad.any()) for p in model.get_submodule(path).parameters(recurse=False)
            ]
            assert any(reached) == (module.gradient.answer == "yes"), (path, module.gradient)
            found[path] = module.gradient.answer
    return found


@pytest.mark.parametrize(
    "kind",
    [
        *(Model, Recomputed, RecomputedReentrant, RecomputedByClosure, RecomputedTogether, InHalfPrecision),
        *(WithAutocastOff, WithGradientsOn),
    ],
)
def test_ways_to_run_a_block(roles_of: RolesOf, kind: type[Model]) -> None:
    assert roles_of(kind(), tokens()) == ROLES
    assert set(gradients(kind(), tokens()).values()) == {"yes"}
    assert all(
        module.calls == 1 for path, module in surgery.capture(kind(), (tokens(),)).modules.items() if path != "blocks"
    )


# --- cut --------------------------------------------------------------------------------------


class Cut(nn.Module):
    """`before`, something that lets no gradient through, and `after`."""

    def __init__(self) -> None:
        super().__init__()
        self.before, self.after = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        return self.after(self.cut(x))

    def cut(self, x: Tensor) -> Tensor:
        return self.before(x).detach()


class CutInPlace(Cut):
    def cut(self, x: Tensor) -> Tensor:
        return (self.before(x) * 2).detach_()


class CutByData(Cut):
    def cut(self, x: Tensor) -> Tensor:
        return self.before(x).data.clone()


class CutByContext(Cut):
    def cut(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            return self.before(x)


class CutByDecorator(Cut):
    @torch.no_grad()
    def cut(self, x: Tensor) -> Tensor:
        return self.before(x)


class CutBySwitch(Cut):
    def cut(self, x: Tensor) -> Tensor:
        with torch.set_grad_enabled(False):
            return self.before(x) + 1


class CutByInference(Cut):
    def cut(self, x: Tensor) -> Tensor:
        with torch.inference_mode():
            made = self.before(x)
        return made.clone()


class CutByComparison(Cut):
    def cut(self, x: Tensor) -> Tensor:
        return (self.before(x) > 0).float()


class CutByRounding(Cut):
    """Rounding has no slope."""

    def cut(self, x: Tensor) -> Tensor:
        return self.before(x).round()


class CutByChoice(Cut):
    """What is greatest is looked up in a table."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(WIDTH, WIDTH)

    def cut(self, x: Tensor) -> Tensor:
        return self.table(self.before(x).argmax(dim=-1))


class CutByOneHot(Cut):
    def cut(self, x: Tensor) -> Tensor:
        return F.one_hot(self.before(x).topk(1).indices[..., 0], WIDTH).float()


CUTS = [
    *(Cut, CutInPlace, CutByData, CutByContext, CutByDecorator, CutBySwitch, CutByInference, CutByComparison),
    *(CutByRounding, CutByChoice, CutByOneHot),
]


@pytest.mark.parametrize("kind", CUTS)
def test_what_lets_no_gradient_through(kind: type[Cut]) -> None:
    found = gradients(kind(), tokens())
    assert found.pop("before") == "no"
    assert set(found.values()) == {"yes"}


class OneOfTwoWays(Cut):
    def cut(self, x: Tensor) -> Tensor:
        made = self.before(x)
        return made + made.detach()


class StraightThrough(Cut):
    """Values are rounded, gradients pass."""

    def cut(self, x: Tensor) -> Tensor:
        made = self.before(x)
        return made + (made.round() - made).detach()


class CutBefore(Cut):
    """What is cut lies before the linear."""

    def cut(self, x: Tensor) -> Tensor:
        return self.before(x.detach())


class OnAgain(Cut):
    def cut(self, x: Tensor) -> Tensor:
        with torch.no_grad(), torch.enable_grad():
            return self.before(x)


class OwnGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, x: Tensor) -> Tensor:
        return x.round()

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, *gradients: Tensor) -> Tensor:
        return gradients[0]


class ByOwnGradient(Cut):
    def cut(self, x: Tensor) -> Tensor:
        return OwnGradient.apply(self.before(x))


@pytest.mark.parametrize("kind", [OneOfTwoWays, StraightThrough, CutBefore, OnAgain, ByOwnGradient])
def test_what_lets_gradients_through(kind: type[Cut]) -> None:
    assert set(gradients(kind(), tokens()).values()) == {"yes"}


# --- weights that are no parameters -----------------------------------------------------------


class Buffered(nn.Module):
    """A linear whose weight is a buffer, as where it is kept from the optimiser."""

    def __init__(self, wide: int, narrow: int) -> None:
        super().__init__()
        self.register_buffer("weight", torch.randn(narrow, wide))

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight)


class BufferedByProduct(Buffered):
    def forward(self, x: Tensor) -> Tensor:
        return x @ self.weight.mT


@pytest.mark.parametrize("kind", [Buffered, BufferedByProduct])
def test_a_buffer_as_weight(roles_of: RolesOf, kind: type[Buffered]) -> None:
    model = Model()
    for block in model.blocks:
        block.up, block.down = kind(WIDTH, INNER), kind(INNER, WIDTH)
    model.last = kind(WIDTH, WIDTH)
    assert roles_of(model, tokens()) == ROLES
