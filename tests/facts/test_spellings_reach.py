"""What a run reaches and goes around, in the spellings that people write it in.

Each expectation was read from the definition of the facts.
"""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations

import surgery
from surgery.graph import Graph

BATCH, TOKENS, WIDTH = 3, 5, 8


def captured(model: nn.Module) -> Graph:
    return surgery.capture(model, (torch.randn(BATCH, TOKENS, WIDTH),))


class Model(nn.Module):
    """A linear that subclasses use or go around, between two that are called."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.lin, self.last = (nn.Linear(WIDTH, WIDTH) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.middle(self.first(x)))

    def middle(self, x: Tensor) -> Tensor:
        return self.lin(x)


class ByFunction(Model):
    def middle(self, x: Tensor) -> Tensor:
        return F.linear(x, self.lin.weight, self.lin.bias)


class ByProduct(Model):
    def middle(self, x: Tensor) -> Tensor:
        return torch.matmul(x, self.lin.weight.T) + self.lin.bias


class ByEinsum(Model):
    def middle(self, x: Tensor) -> Tensor:
        return torch.einsum("bni,oi->bno", x, self.lin.weight)


class InAnotherDtype(Model):
    """As a router that has to be computed in full precision."""

    def middle(self, x: Tensor) -> Tensor:
        return F.linear(x.double(), self.lin.weight.double()).to(x.dtype)


class CalledAndRead(Model):
    """Called once, and its weight read beside that."""

    def middle(self, x: Tensor) -> Tensor:
        return self.lin(x) + x @ self.lin.weight


class ByState(Model):
    def middle(self, x: Tensor) -> Tensor:
        return torch.func.functional_call(self.last, dict(self.lin.named_parameters()), (x,))


class Standardised(Model):
    """The parent standardises the weight before it is used."""

    def middle(self, x: Tensor) -> Tensor:
        weight = self.lin.weight
        return F.linear(x, (weight - weight.mean(1, keepdim=True)) / weight.std(1, keepdim=True), self.lin.bias)


class Merged(Model):
    """A low-rank update is added to the weight before it is used."""

    def __init__(self) -> None:
        super().__init__()
        self.down, self.up = nn.Parameter(torch.randn(2, WIDTH)), nn.Parameter(torch.zeros(WIDTH, 2))

    def middle(self, x: Tensor) -> Tensor:
        return F.linear(x, self.lin.weight + self.up @ self.down, self.lin.bias)


class Joined(Model):
    """One product for what two linears would do."""

    def middle(self, x: Tensor) -> Tensor:
        weight = torch.cat([self.lin.weight, self.lin.weight.flip(0)])
        return F.linear(x, weight).chunk(2, dim=-1)[0]


class ByAttribute(Model):
    def middle(self, x: Tensor) -> Tensor:
        weight = self.get_parameter("lin.weight")
        return x @ getattr(self.lin, "weight").mT + weight.sum()  # noqa: B009


class ByCheckpoint(Model):
    def middle(self, x: Tensor) -> Tensor:
        return torch.utils.checkpoint.checkpoint(F.linear, x, self.lin.weight, use_reentrant=False)


AROUND = [
    *(ByFunction, ByProduct, ByEinsum, InAnotherDtype, CalledAndRead, ByState, Standardised, Merged, Joined),
    *(ByAttribute, ByCheckpoint),
]


@pytest.mark.parametrize("kind", AROUND)
def test_a_weight_that_is_read_outside_its_forward(kind: type[Model]) -> None:
    graph = captured(kind())
    assert graph["lin"].bypassed.answer == "yes"
    assert "test_spellings_reach.py:" in graph["lin"].bypassed.evidence
    assert graph["lin"].unreached.answer == "no"
    assert {graph["first"].bypassed.answer, graph["last"].bypassed.answer} == {"no"}


class Described(Model):
    """Only the dtype, the device and the shape of the weight are read."""

    def middle(self, x: Tensor) -> Tensor:
        x = x.to(self.lin.weight.dtype).to(self.lin.weight.device).type_as(self.lin.weight)
        return self.lin(x) * self.lin.weight.shape[0] ** -0.5 + x.new_zeros(self.lin.weight.size(0))


class LikeTheWeight(Model):
    def middle(self, x: Tensor) -> Tensor:
        return self.lin(x + torch.zeros_like(self.lin.weight[0]) + torch.empty_like(self.lin.bias).fill_(1.0))


class CalledAsForward(Model):
    def middle(self, x: Tensor) -> Tensor:
        return self.lin.forward(x)


class CalledByName(Model):
    def middle(self, x: Tensor) -> Tensor:
        return getattr(self, "lin")(x)  # noqa: B009


class CalledByMap(Model):
    def middle(self, x: Tensor) -> Tensor:
        return torch.stack(list(map(self.lin, x.unbind(1))), dim=1)


class WeightNorm(Model):
    def __init__(self) -> None:
        super().__init__()
        parametrizations.weight_norm(self.lin)


class WeightNormByHook(Model):
    """The older way, by a hook before each forward; audio codecs and vocoders have it."""

    def __init__(self) -> None:
        super().__init__()
        torch.nn.utils.weight_norm(self.lin)


class SpectralNorm(Model):
    def __init__(self) -> None:
        super().__init__()
        parametrizations.spectral_norm(self.lin)


class SpectralNormByHook(Model):
    def __init__(self) -> None:
        super().__init__()
        torch.nn.utils.spectral_norm(self.lin)


class Orthogonal(Model):
    def __init__(self) -> None:
        super().__init__()
        parametrizations.orthogonal(self.lin, orthogonal_map="cayley")


class Cached(Model):
    """A cached parametrisation, as one has it where a weight is used often."""

    def __init__(self) -> None:
        super().__init__()
        parametrizations.weight_norm(self.lin)

    def middle(self, x: Tensor) -> Tensor:
        with torch.nn.utils.parametrize.cached():
            return self.lin(self.lin(x))


class Hooked(Model):
    """A hook on a module changes its input and output."""

    def __init__(self) -> None:
        super().__init__()
        self.lin.register_forward_pre_hook(lambda module, args: (args[0] * 2,))
        self.lin.register_forward_hook(lambda module, args, made: made + 1)


class Shared(Model):
    """The weight belongs to two modules, each of which is called."""

    def __init__(self) -> None:
        super().__init__()
        self.lin.weight = self.first.weight


INSIDE = [
    *(Model, Described, LikeTheWeight, CalledAsForward, CalledByName, CalledByMap, WeightNorm, WeightNormByHook),
    *(SpectralNorm, SpectralNormByHook, Orthogonal, Cached, Hooked, Shared),
]


@pytest.mark.parametrize("kind", INSIDE)
def test_a_weight_that_is_read_within_its_forward(kind: type[Model]) -> None:
    graph = captured(kind())
    assert {
        path: module.bypassed.answer for path, module in graph.modules.items() if module.bypassed.answer != "no"
    } == {}
    assert {module.unreached.answer for module in graph.modules.values()} == {"no"}
    assert graph["lin"].calls >= 1
    assert set(graph["last"].roles) == {"output_head"}


def test_how_often_a_module_is_called() -> None:
    class Three(Model):
        def middle(self, x: Tensor) -> Tensor:
            return self.lin(self.lin(self.lin.forward(x)))

    graph = captured(Three())
    assert [graph[path].calls for path in ("first", "lin", "last")] == [1, 3, 1]
    assert graph["lin"].bypassed.answer == "no"


def test_a_module_with_two_parents() -> None:
    class Parents(Model):
        def __init__(self) -> None:
            super().__init__()
            self.left, self.right = nn.Sequential(self.lin, nn.ReLU()), nn.ModuleDict({"same": self.lin})

        def middle(self, x: Tensor) -> Tensor:
            return self.left(x) + self.right["same"](x)

    graph = captured(Parents())
    assert graph["lin"].calls == 2
    assert set(graph["lin"].tied) == {"left.0", "right.same"}
    assert graph["lin"].bypassed.answer == "no"
