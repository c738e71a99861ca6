"""The plan: inert, versioned data that people review and `apply` carries out to the letter."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

FORMAT_VERSION = 1


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Site(_Record):
    """One module that gets an adapter.

    `shape` is its weight's, `scale` the factor on the adapter's product, `added` the parameters it gains,
    `adapter` the named PEFT adapter it belongs to, `place` the line of the target that chose it,
    `roles` what the graph knows of it (role to evidence).
    """

    path: str
    kind: str
    shape: list[int]
    target: str
    place: str
    method: str
    settings: dict[str, Any]
    scale: float
    added: int
    adapter: str
    roles: dict[str, str] = Field(default_factory=dict)


class Adapter(_Record):
    """A named PEFT adapter: sites whose settings differ in nothing but rank and alpha share one."""

    name: str
    method: str
    settings: dict[str, Any]
    sites: int
    added: int


class Protection(_Record):
    """A `never`: what it covers, and for each of these the evidence of the fact that put it there."""

    selector: str
    because: str
    place: str
    covers: list[str]
    evidence: dict[str, str] = Field(default_factory=dict)


class Exclusion(_Record):
    """A module that a target selected and an `exclude` or `except` took away."""

    path: str
    because: str
    selector: str
    place: str
    target: str


class Assumption(_Record):
    """A fact the author vouches for where the graph does not know it."""

    fact: str
    because: str
    place: str
    covers: list[str]


class SwitchedOff(_Record):
    """A target whose `when` is false, and the values that made it so."""

    target: str
    when: str
    place: str


class Limit(_Record):
    """A line of a budget: `limit` and `actual` are in bytes, a share of 1, or a count."""

    name: str
    limit: float
    actual: float
    place: str


class Totals(_Record):
    """Counts of parameters. `trainable` = `added` + `trained`; `share` = `trainable` / `total` of the base."""

    added: int
    trained: int
    trainable: int
    total: int
    share: float
    adapter_bytes: int
    optimizer_bytes: int


class Fingerprints(_Record):
    """What the plan was made from. `versions` are those of the capture, by package."""

    spec: str
    graph: str
    versions: dict[str, str] = Field(default_factory=dict)


class Finding(_Record):
    """A diagnostic of the plan, as `surgery.diagnostics.Diagnostic.to_json` gives it."""

    code: str
    severity: Literal["error", "warning"]
    message: str
    span: dict[str, Any] | None = None
    place: str | None = None
    labels: list[dict[str, Any]] = Field(default_factory=list)
    notes: list[str] = Field(default_factory=list)
    helps: list[str] = Field(default_factory=list)


class Plan(_Record):
    """Everything that applying a spec to a model will do. Not `applyable` while an error stands."""

    format_version: Literal[1] = FORMAT_VERSION
    applyable: bool
    spec: str
    model: str
    params: dict[str, Any] = Field(default_factory=dict)
    sites: list[Site]
    adapters: list[Adapter]
    never: list[Protection]
    excluded: list[Exclusion]
    assumed: list[Assumption]
    switched_off: list[SwitchedOff]
    trained: list[str]
    checkpointed: list[str]
    budget: list[Limit]
    totals: Totals
    fingerprints: Fingerprints
    diagnostics: list[Finding]
