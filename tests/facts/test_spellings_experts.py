"""Mixtures of experts, in the spellings that people write them in.

Each expectation was read from the definition of the roles.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

BATCH, TOKENS, FEATURES, WIDTH, INNER, OUT, EXPERTS = 3, 5, 7, 16, 24, 10, 4
RolesOf = Callable[..., dict[str, str]]

ENDS = {"embed": "input_embedding", "norm": "norm", "head": "output_head"}
ROUTED = ENDS | {"blocks.*.norm": "norm", "blocks.*.router": "router"}
LAST = "feedforward_out residual_output"


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
    torch.manual_seed(0)
    return torch.randn(BATCH, TOKENS, FEATURES)


class Expert(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(WIDTH, INNER), nn.Linear(INNER, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        return self.down(F.gelu(self.up(x)))


class Mixture(nn.Module):
    """Four experts and a router; subclasses say how tokens go to them."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.router = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, EXPERTS, bias=False)
        self.experts = nn.ModuleList(Expert() for _ in range(EXPERTS))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.mixed(self.norm(x).flatten(0, 1)).view_as(x)

    def mixed(self, flat: Tensor) -> Tensor:
        raise AssertionError("each case has its own")


class AllWeighed(Mixture):
    """Every expert runs on every token."""

    def mixed(self, flat: Tensor) -> Tensor:
        weights = self.router(flat).softmax(-1)
        return sum(weights[:, i, None] * expert(flat) for i, expert in enumerate(self.experts))


class AllStacked(Mixture):
    def mixed(self, flat: Tensor) -> Tensor:
        made = torch.stack([expert(flat) for expert in self.experts], dim=1)
        return (F.softmax(self.router(flat), dim=-1).unsqueeze(-1) * made).sum(dim=1)


class Masked(Mixture):
    """Two experts count for each token; the others are multiplied by zero."""

    def mixed(self, flat: Tensor) -> Tensor:
        probabilities = self.router(flat).softmax(-1)
        best, chosen = probabilities.topk(2, dim=-1)
        weights = torch.zeros_like(probabilities).scatter(-1, chosen, best)
        out = torch.zeros_like(flat)
        for i, expert in enumerate(self.experts):
            out = out + expert(flat) * weights[:, i : i + 1]
        return out


class MaskedScores(Mixture):
    """What is not among the best is minus infinity before the softmax."""

    def mixed(self, flat: Tensor) -> Tensor:
        scores = self.router(flat)
        worst = scores.topk(2, dim=-1).values[:, -1:]
        weights = scores.masked_fill(scores < worst, float("-inf")).softmax(-1)
        return torch.stack([expert(flat) * weights[:, i, None] for i, expert in enumerate(self.experts)]).sum(0)


class Gathered(Mixture):
    """All experts run; those that were chosen are gathered and weighed."""

    def mixed(self, flat: Tensor) -> Tensor:
        best, chosen = self.router(flat).topk(2, dim=-1)
        made = torch.stack([expert(flat) for expert in self.experts], dim=1)
        picked = made.gather(1, chosen[..., None].expand(-1, -1, WIDTH))
        return (picked * best.softmax(-1)[..., None]).sum(1)


class SigmoidScores(Mixture):
    """DeepSeek's way: sigmoid scores, normalised over those chosen."""

    def mixed(self, flat: Tensor) -> Tensor:
        scores = self.router(flat).sigmoid()
        best, chosen = torch.topk(scores, 2, dim=-1)
        best = best / best.sum(-1, keepdim=True)
        weights = torch.zeros_like(scores).scatter_(1, chosen, best)
        return sum(weights[:, i].unsqueeze(-1) * expert(flat) for i, expert in enumerate(self.experts))


MODULES = [AllWeighed, AllStacked, Masked, MaskedScores, Gathered, SigmoidScores]
INSIDE = {
    f"blocks.*.experts.{i}.{name}": role
    for i in range(4)
    for name, role in {"up": "feedforward_in", "down": LAST}.items()
}


@pytest.mark.parametrize("block", MODULES)
def test_experts_that_are_modules(roles_of: RolesOf, block: type[Mixture]) -> None:
    assert roles_of(Model(block), tokens()) == ROUTED | INSIDE


class IndexAdded(Mixture):
    """Each expert runs on the tokens that chose it."""

    def mixed(self, flat: Tensor) -> Tensor:
        best, chosen = self.router(flat).softmax(-1).topk(EXPERTS, dim=-1)
        out = torch.zeros_like(flat)
        for i, expert in enumerate(self.experts):
            row, column = torch.where(chosen == i)
            out.index_add_(0, row, expert(flat[row]) * best[row, column, None])
        return out


class WrittenByMask(Mixture):
    def mixed(self, flat: Tensor) -> Tensor:
        best, chosen = self.router(flat).softmax(-1).max(dim=-1)
        out = torch.zeros_like(flat)
        for i, expert in enumerate(self.experts):
            mine = chosen == i
            out[mine] = best[mine][:, None] * expert(flat[mine])
        return out


class Sorted(Mixture):
    """Tokens are sorted by expert, cut into runs, and put back by the inverse order."""

    def mixed(self, flat: Tensor) -> Tensor:
        best, chosen = self.router(flat).softmax(-1).topk(2, dim=-1)
        order = chosen.flatten().argsort()
        counts = chosen.flatten().bincount(minlength=EXPERTS).tolist()
        runs = flat[order // 2].split(counts)
        made = torch.cat([expert(run) for expert, run in zip(self.experts, runs, strict=True)])
        back = torch.empty_like(made).index_copy(0, order, made)
        return (back.view(-1, 2, WIDTH) * best[..., None]).sum(1)


@pytest.mark.parametrize("block", [IndexAdded, WrittenByMask, Sorted])
def test_experts_that_take_their_tokens(roles_of: RolesOf, block: type[Mixture]) -> None:
    assert roles_of(Model(block), tokens()) == ROUTED | INSIDE


class Weights(nn.Module):
    """All experts' matrices in two parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.up = nn.Parameter(torch.randn(EXPERTS, WIDTH, INNER))
        self.down = nn.Parameter(torch.randn(EXPERTS, INNER, WIDTH))


class FusedEinsum(Weights):
    def forward(self, flat: Tensor, scores: Tensor) -> Tensor:
        inner = F.gelu(torch.einsum("td,edi->tei", flat, self.up))
        return torch.einsum("tei,eid,te->td", inner, self.down, scores.softmax(-1))


class FusedEinsumInTwoSteps(Weights):
    def forward(self, flat: Tensor, scores: Tensor) -> Tensor:
        made = torch.einsum("tei,eid->ted", F.gelu(torch.einsum("td,edi->tei", flat, self.up)), self.down)
        return (made * scores.softmax(-1).unsqueeze(-1)).sum(1)


class FusedBmm(Weights):
    def forward(self, flat: Tensor, scores: Tensor) -> Tensor:
        made = torch.bmm(F.gelu(torch.bmm(flat.expand(EXPERTS, -1, -1), self.up)), self.down)
        return (made * scores.softmax(-1).T[..., None]).sum(0)


class FusedGathered(Weights):
    """The matrices of the chosen expert are gathered for each token."""

    def forward(self, flat: Tensor, scores: Tensor) -> Tensor:
        best, chosen = scores.softmax(-1).max(-1)
        inner = F.relu(torch.bmm(flat[:, None], self.up[chosen]))
        return torch.bmm(inner, self.down[chosen]).squeeze(1) * best[:, None]


class Fused(Mixture):
    kind: type[Weights] = FusedEinsum

    def __init__(self) -> None:
        super().__init__()
        self.experts = self.kind()  # type: ignore[assignment]

    def mixed(self, flat: Tensor) -> Tensor:
        return self.experts(flat, self.router(flat))


@pytest.mark.parametrize("kind", [FusedEinsumInTwoSteps, FusedBmm, FusedGathered])
def test_experts_in_one_parameter(roles_of: RolesOf, kind: type[Weights]) -> None:
    block = type("Block", (Fused,), {"kind": kind})
    expected = {"blocks.*.experts": "feedforward_in feedforward_out residual_output"}
    assert roles_of(Model(block), tokens()) == ROUTED | expected


class SharedExpert(AllStacked):
    """One expert serves all tokens; how much of it is taken, a sigmoid says."""

    def __init__(self) -> None:
        super().__init__()
        self.shared, self.shared_gate = Expert(), nn.Linear(WIDTH, 1)

    def mixed(self, flat: Tensor) -> Tensor:
        return super().mixed(flat) + self.shared(flat) * torch.sigmoid(self.shared_gate(flat))


class SharedExpertFirst(SharedExpert):
    def mixed(self, flat: Tensor) -> Tensor:
        return torch.addcmul(AllStacked.mixed(self, flat), self.shared_gate(flat).sigmoid(), self.shared(flat))


@pytest.mark.parametrize("block", [SharedExpert, SharedExpertFirst])
def test_a_shared_expert_and_its_gate(roles_of: RolesOf, block: type[Mixture]) -> None:
    shared = {"blocks.*.shared.up": "feedforward_in", "blocks.*.shared.down": LAST, "blocks.*.shared_gate": "router"}
    assert roles_of(Model(block), tokens()) == ROUTED | INSIDE | shared
