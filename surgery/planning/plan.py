"""The plan: inert, versioned data that people review and `apply` carries out to the letter."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from surgery.diagnostics import Diagnostic, SurgeryError
from surgery.files import read_text

FORMAT_VERSION: Literal[1] = 1


class Record(BaseModel):
    """Frozen data in which an unknown field is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)


class Site(Record):
    """One module that gets an adapter, or one of its parameters.

    `parameter` is the name of the parameter within the module at `path`; empty where the module itself is adapted.
    `kind` is the module's class, `shape` that of its weight or of the parameter, `scale` the factor on the adapter's
    product, `added` the parameters it gains, `frozen` how many of these are never trained, `adapter` the named PEFT
    adapter it belongs to, `place` the line of the target that chose it, `roles` what the graph knows of it (role to
    evidence).
    """

    path: str
    parameter: str = ""
    kind: str
    shape: list[int]
    target: str
    place: str
    method: str
    settings: dict[str, Any]
    scale: float
    added: int
    frozen: int = 0
    adapter: str
    roles: dict[str, str] = Field(default_factory=dict)

    @property
    def full_path(self) -> str:
        """The path of what is adapted: that of the module, or of the parameter."""
        return f"{self.path}.{self.parameter}" if self.parameter else self.path


class Adapter(Record):
    """A named PEFT adapter: sites whose settings differ in nothing but rank and alpha share one.

    `added` counts the parameters of its sites, `shared` those that all of its sites use together.
    """

    name: str
    method: str
    settings: dict[str, Any]
    sites: int
    added: int
    shared: int = 0


class Protection(Record):
    """A `never`: what it covers, and for each of these the evidence of the fact that put it there."""

    selector: str
    because: str
    place: str
    covers: list[str]
    evidence: dict[str, str] = Field(default_factory=dict)


class Exclusion(Record):
    """A module or parameter that a target selected and an `exclude` or `except` took away."""

    path: str
    because: str
    selector: str
    place: str
    target: str


class Assumption(Record):
    """A fact the author vouches for where the graph does not know it."""

    fact: str
    because: str
    place: str
    covers: list[str]


class SwitchedOff(Record):
    """A target whose `when` is false, and the values that made it so."""

    target: str
    when: str
    place: str


class RoleShare(Record):
    """Of the model's parameters that have a role, biases aside, how many a site adapts or the plan trains."""

    role: str
    parameters: int
    touched: int


class Limit(Record):
    """A line of a budget: the plan holds `actual operator limit`. `unit` is that of both: a share is one of 1."""

    name: Literal["trainable", "adapter"]
    operator: Literal["<=", "<"]
    unit: Literal["share", "parameters", "bytes"]
    limit: float
    actual: float
    place: str


class Totals(Record):
    """Counts of parameters. `trainable` = `added` - `frozen` + `trained`; `share` = `trainable` / `total` of the base.

    `adapter_bytes` are those of all that is added or trained, `optimizer_bytes` those of AdamW's moments.
    """

    added: int
    frozen: int = 0
    trained: int
    trainable: int
    total: int
    share: float
    adapter_bytes: int
    optimizer_bytes: int


class Fingerprints(Record):
    """What the plan was made from. `versions` are those of the capture, by package."""

    spec: str
    graph: str
    versions: dict[str, str] = Field(default_factory=dict)


class Finding(Record):
    """A diagnostic of the plan, as `surgery.diagnostics.Diagnostic.to_json` gives it."""

    code: str
    severity: Literal["error", "warning"]
    message: str
    span: dict[str, Any] | None = None
    place: str | None = None
    labels: list[dict[str, Any]] = Field(default_factory=list)
    notes: list[str] = Field(default_factory=list)
    helps: list[str] = Field(default_factory=list)


class Plan(Record):
    """Everything that applying a spec to a model will do. Not `applyable` while an error stands.

    `trained` lists modules whose own parameters, not those of the modules inside them, are trained in full.
    `checkpointed` lists modules whose activations are recomputed. Paths are relative to the model's root.
    """

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
    roles: list[RoleShare] = Field(default_factory=list)
    fingerprints: Fingerprints
    diagnostics: list[Finding]


def read_plan(path: Path | str) -> Plan:
    """A plan from its JSON file. Raises SurgeryError: E0501 if it cannot be read, or is not a plan."""
    text = read_text(path, what="plan", help="write one with `surgery plan F.surg --out FILE`")
    try:
        return Plan.model_validate_json(text)
    except ValidationError as error:
        raise SurgeryError(
            Diagnostic(
                "E0501",
                f"not a plan of format {FORMAT_VERSION}: {first_problem(error)}",
                place=str(path),
                helps=("write it again with `surgery plan F.surg --out FILE`",),
            )
        ) from None


def first_problem(error: ValidationError) -> str:
    """The first thing pydantic found wrong, in one line."""
    problem = error.errors(include_url=False, include_context=False)[0]
    where = ".".join(map(str, problem["loc"]))
    return (f"{where}: " if where else "") + problem["msg"].replace("\n", " ")


def json_schema() -> str:
    """The JSON Schema of a plan, as `plan.schema.json` beside this file holds it."""
    schema = {"$schema": "https://json-schema.org/draft/2020-12/schema", **Plan.model_json_schema()}
    return json.dumps(schema, indent=2) + "\n"
