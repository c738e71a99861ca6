"""The lock: the plan that was accepted, one line a module, so that a pull request shows what changed."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError

from surgery.diagnostics import Diagnostic, SurgeryError
from surgery.files import read_text, replace_file
from surgery.planning.plan import Fingerprints, Plan, Record, Totals, first_problem

LOCK_VERSION: Literal[1] = 1
_HELP = "accept the plan again with `surgery lock`, or restore the file from version control"


class LockedSite(Record):
    """A site less what only explains it: its place in the spec, and its roles."""

    path: str
    parameter: str = ""
    kind: str
    shape: list[int]
    target: str
    method: str
    settings: dict[str, Any]
    scale: float
    added: int
    adapter: str

    @property
    def full_path(self) -> str:
        """The path of what is adapted: that of the module, or of the parameter."""
        return f"{self.path}.{self.parameter}" if self.parameter else self.path


class LockedProtection(Record):
    selector: str
    because: str
    covers: list[str]


class LockedExclusion(Record):
    path: str
    target: str
    because: str


class LockedAssumption(Record):
    fact: str
    covers: list[str]


class Lock(Record):
    """The normalised core of a plan: what it does to which modules, and what it was made from."""

    format_version: Literal[1] = LOCK_VERSION
    spec: str
    model: str
    fingerprints: Fingerprints
    params: dict[str, Any]
    totals: Totals
    sites: list[LockedSite]
    trained: list[str]
    checkpointed: list[str]
    never: list[LockedProtection]
    excluded: list[LockedExclusion]
    assumed: list[LockedAssumption]


def lock_of(plan: Plan) -> Lock:
    """The core of a plan."""
    return Lock(
        spec=plan.spec,
        model=plan.model,
        fingerprints=plan.fingerprints,
        params=plan.params,
        totals=plan.totals,
        sites=[LockedSite(**_fields(site, LockedSite)) for site in plan.sites],
        trained=plan.trained,
        checkpointed=plan.checkpointed,
        never=[LockedProtection(**_fields(guard, LockedProtection)) for guard in plan.never],
        excluded=[LockedExclusion(**_fields(taken, LockedExclusion)) for taken in plan.excluded],
        assumed=[LockedAssumption(**_fields(assumed, LockedAssumption)) for assumed in plan.assumed],
    )


def _fields(record: Record, kept: type[Record]) -> dict[str, Any]:
    return {name: getattr(record, name) for name in kept.model_fields}


def lock_text(lock: Lock) -> str:
    """The lock file's text: JSON with one line a module."""
    parts = []
    for name, value in lock.model_dump(mode="json").items():
        if name in ("never", "assumed"):
            text = _lines((_record_text(item) for item in value), 2)
        elif isinstance(value, list):
            text = _lines((_line(_said(item)) for item in value), 2)
        else:
            text = _line(value)
        parts.append(f"  {json.dumps(name)}: {text}")
    return "{\n" + ",\n".join(parts) + "\n}\n"


def _said(item: Any) -> Any:
    """A site without the name of a parameter, where a whole module is adapted."""
    if isinstance(item, dict) and item.get("parameter") == "":
        return {name: value for name, value in item.items() if name != "parameter"}
    return item


def _record_text(record: dict[str, Any]) -> str:
    """A record with a list of modules, one line each."""
    fields = {name: value for name, value in record.items() if name != "covers"}
    return f'{_line(fields)[:-1]}, "covers": {_lines(map(_line, record["covers"]), 4)}}}'


def _lines(items: Iterable[str], indent: int) -> str:
    pad = " " * indent
    body = ",\n".join(f"{pad}  {item}" for item in items)
    return f"[\n{body}\n{pad}]" if body else "[]"


def _line(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def write_lock(plan: Plan, path: Path) -> None:
    """Accept a plan: replace the lock file in one step. Raises SurgeryError (E0514)."""
    assert plan.applyable
    replace_file(path, lock_text(lock_of(plan)))


def read_lock(path: Path, plan: Plan) -> Lock | None:
    """The lock of `plan`'s spec, or None if there is none yet.

    Raises SurgeryError: E0501 if it cannot be read, E0504 if it is damaged, E0505 if it belongs to another spec.
    """
    if not path.exists():
        return None
    lock = read_lock_file(path)
    _check_owner(lock, plan, path)
    return lock


def read_lock_file(path: Path) -> Lock:
    """A lock by itself. Raises SurgeryError: E0501 if it cannot be read, E0504 if it is damaged."""
    text = read_text(path, what="lock", help="write one with `surgery lock F.surg`")
    try:
        return Lock.model_validate_json(text)
    except ValidationError as error:
        raise SurgeryError(
            Diagnostic(
                "E0504",
                f"the lock is not one of format {LOCK_VERSION}: {first_problem(error)}",
                place=str(path),
                helps=(_HELP,),
            )
        ) from None


def _check_owner(lock: Lock, plan: Plan, path: Path) -> None:
    pairs = (("spec", lock.spec, plan.spec), ("model", lock.model, plan.model))
    differences = [f"its {what} is {old or 'none'}, not {new or 'none'}" for what, old, new in pairs if old != new]
    if differences:
        raise SurgeryError(
            Diagnostic(
                "E0505",
                f"the lock belongs to another spec: {'; '.join(differences)}",
                place=str(path),
                helps=(f"accept the plan of {plan.spec} with `surgery lock`, which replaces it",),
            )
        )
