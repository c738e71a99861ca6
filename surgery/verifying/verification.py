"""What verifying an adapted model found."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from surgery.diagnostics import Diagnostic
from surgery.planning.words import counted


@dataclass(frozen=True)
class Proof:
    """What was compared. `difference` and `tolerance` are relative to the largest number expected."""

    what: str
    difference: float
    tolerance: float

    @property
    def holds(self) -> bool:
        return self.difference <= self.tolerance

    def __str__(self) -> str:
        return f"{self.what}: relative difference {self.difference:.2g} (at most {self.tolerance:.2g})"


@dataclass(frozen=True)
class Identity:
    """Whether the adapted model computes what the base model computes.

    `difference` is the largest absolute difference of any output number. Where the method starts as the base model up
    to rounding only, `close` says that it is at most `tolerance`. `skipped` says why it was not required.
    """

    status: Literal["exact", "close", "skipped", "broken"]
    difference: float
    skipped: str = ""
    tolerance: float = 0.0


@dataclass(frozen=True)
class Gradients:
    """Which adapters one backward run of the example call reaches, and which of them one real step then moves.

    `blocked` maps a site to why its gradient is zero in this model's present weights, a fact of the base model
    that training starts with; `missing` a site to why no gradient can reach it; `stuck` names the sites that a
    gradient reaches and a step of the optimiser leaves as they are. Of the `parameters` that are trained, as many as
    `parameters_reached` have a non-zero gradient after that step.
    """

    status: Literal["reached", "blocked", "missing"]
    reached: int
    blocked: Mapping[str, str] = field(default_factory=dict)
    missing: Mapping[str, str] = field(default_factory=dict)
    moved: int = 0
    stuck: tuple[str, ...] = ()
    parameters: int = 0
    parameters_reached: int = 0


@dataclass(frozen=True)
class Merging:
    """Whether the adapters merged into the weights compute what they compute beside them.

    `layers` compares every merged layer by itself, `outputs` one call of the whole model; both are None where no
    adapter can be merged. `skipped` maps sites that cannot be to the reason. Fresh adapters were `moved` at random by
    about this much for it; others, 0, were taken as they are.
    """

    merged: int
    layers: Proof | None = None
    outputs: Proof | None = None
    skipped: Mapping[str, str] = field(default_factory=dict)
    moved: float = 0.0

    def __str__(self) -> str:
        reasons = [f"{reason} ({counted(n, 'module')})" for reason, n in _counts(self.skipped).items()]
        if self.layers is None or self.outputs is None:
            return f"not possible: {'; '.join(reasons)}"
        rest = f"; not merged: {'; '.join(reasons)}" if reasons else ""
        how = f" when moved by {self.moved:g}" if self.moved else ""
        return (
            f"{counted(self.merged, 'module')}, equal{how}: outputs to {self.outputs.difference:.2g} of the largest "
            f"(at most {self.outputs.tolerance:g}), layers to {self.layers.difference:.2g} "
            f"(at most {self.layers.tolerance:g}){rest}"
        )


@dataclass(frozen=True)
class Memory:
    """What applying the plan added to the model, in bytes, as measured.

    `parameters` are those of the adapters and of the modules trained in full, `planned` what the plan says of them.
    `buffers` are tensors that are not trained (projections, indices), by their name.
    """

    parameters: int
    planned: int
    buffers: Mapping[str, int] = field(default_factory=dict)

    def __str__(self) -> str:
        against = "exactly as planned" if self.parameters == self.planned else f"{self.planned:,} planned"
        text = f"{self.parameters:,} bytes of adapter, {against}"
        if not self.buffers:
            return text
        names = [f"{name} {size:,}" for name, size in self.buffers.items()]
        return f"{text}; {sum(self.buffers.values()):,} of buffers beside ({', '.join(names)})"


@dataclass(frozen=True)
class Verification:
    """The figures of one verified model: sites and parameters as planned, bytes as measured."""

    sites: int
    added: int
    trainable: int
    memory: Memory
    identity: Identity
    gradients: Gradients
    merging: Merging
    diagnostics: tuple[Diagnostic, ...] = ()

    @property
    def ok(self) -> bool:
        return not any(diagnostic.is_error for diagnostic in self.diagnostics)

    def __str__(self) -> str:
        gradients, sites = self.gradients, counted(self.sites, "adapted module")
        after = f"{gradients.parameters_reached} of {counted(gradients.parameters, 'trained tensor')}"
        lines = [
            f"adapted   {counted(self.sites, 'module')}, with {self.added:,} parameters, exactly as planned",
            f"trained   {self.trainable:,} parameters require gradients, exactly as planned",
            f"memory    {self.memory}",
            f"identity  {self._identity}",
            f"gradient  {gradients.status}: reaches {gradients.reached} of {sites}",
            f"step      moves {gradients.moved} of {sites}; gradients then reach {after}",
            f"merged    {self.merging}",
        ]
        return "\n".join(lines)

    @property
    def _identity(self) -> str:
        identity = self.identity
        text = f"{identity.status}: max abs difference to the base model {identity.difference:g}"
        if identity.status == "close":
            return f"{text} (at most {identity.tolerance:g})"
        return text + (f" ({identity.skipped})" if identity.skipped else "")


def _counts(reasons: Mapping[str, str]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for reason in reasons.values():
        counts[reason] = counts.get(reason, 0) + 1
    return counts
