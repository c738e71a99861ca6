"""What verifying an adapted model found."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from surgery.diagnostics import Diagnostic
from surgery.planning.words import counted


@dataclass(frozen=True)
class Identity:
    """Whether the adapted model computes what the base model computes.

    `difference` is the largest absolute difference of any output number. `skipped` says why it was not required.
    """

    status: Literal["exact", "skipped", "broken"]
    difference: float
    skipped: str = ""


@dataclass(frozen=True)
class Gradients:
    """Which adapters one backward run of the example call reaches.

    `blocked` maps a site to why its gradient is zero in this model's present weights, a fact of the base model
    that training starts with; `missing` a site to why no gradient can reach it.
    """

    status: Literal["reached", "blocked", "missing"]
    reached: int
    blocked: Mapping[str, str] = field(default_factory=dict)
    missing: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Verification:
    """The figures of one verified model: sites and parameters as planned, bytes as measured."""

    sites: int
    added: int
    trainable: int
    adapter_bytes: int
    planned_bytes: int
    identity: Identity
    gradients: Gradients
    diagnostics: tuple[Diagnostic, ...] = ()

    @property
    def ok(self) -> bool:
        return not any(diagnostic.is_error for diagnostic in self.diagnostics)

    def __str__(self) -> str:
        identity, gradients = self.identity, self.gradients
        lines = [
            f"adapted   {counted(self.sites, 'module')}, with {self.added:,} parameters, exactly as planned",
            f"trained   {self.trainable:,} parameters require gradients, exactly as planned",
            f"memory    {self.adapter_bytes:,} bytes of adapter ({self.planned_bytes:,} planned)",
            f"identity  {identity.status}: max abs difference to the base model {identity.difference:g}"
            + (f" ({identity.skipped})" if identity.skipped else ""),
            f"gradient  {gradients.status}: reaches {gradients.reached} of {counted(self.sites, 'adapted module')}",
        ]
        return "\n".join(lines)
