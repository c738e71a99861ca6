"""Whether a run that is resumed is still the run that was started."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from surgery.diagnostics import Diagnostic, SurgeryError
from surgery.planning import Plan
from surgery.training.config import TrainConfig
from surgery.training.state import RunRecord

_SHOWN = 8


def check_plan(recorded: Plan, plan: Plan, place: str) -> None:
    """Raises SurgeryError (E0512) with the difference when `plan` is not the one that `recorded` a run's start."""
    differences = plan_differences(recorded, plan)
    if differences:
        raise SurgeryError(
            Diagnostic(
                "E0512",
                "the run was started with another plan",
                place=place,
                notes=_first(differences),
                helps=(
                    "go on with the spec, parameters and graph that the run was started with",
                    "or start a new run with this plan in another folder: `--out`",
                ),
            )
        )


def check_settings(record: RunRecord, config: TrainConfig, *, samples: int, processes: int, place: str) -> None:
    """Raises SurgeryError (E0512) when a setting that decides the outcome differs from the run's."""
    differences = config.changes(record.config)
    if record.samples != samples:
        differences.append(f"samples in the data: {record.samples} -> {samples}")
    if record.processes != processes:
        differences.append(f"processes: {record.processes} -> {processes}")
    if differences:
        raise SurgeryError(
            Diagnostic(
                "E0512",
                "the run was started with other settings",
                place=place,
                notes=_first(differences),
                helps=("resume with the settings of the start, or start a new run in another folder: `--out`",),
            )
        )


def plan_differences(recorded: Plan, plan: Plan) -> list[str]:
    """What the two plans do differently, a line each; wording, places and findings do not count."""
    lines = [
        line
        for part in ("sites", "adapters", "never", "trained", "checkpointed")
        for line in _changes(part, _meaning(recorded, part), _meaning(plan, part))
    ]
    was, now = recorded.fingerprints, plan.fingerprints
    if was.graph != now.graph:
        lines.append(f"fingerprint of the graph: {was.graph} -> {now.graph}")
    if lines and was.spec != now.spec:
        lines.append(f"fingerprint of the spec: {was.spec} -> {now.spec}")
    return lines


def _meaning(plan: Plan, part: str) -> dict[str, Any]:
    """One part of a plan as what it means for training, by what names each of its entries."""
    if part == "sites":
        return {
            s.path: s.model_dump(include={"kind", "shape", "method", "settings", "scale", "adapter"})
            for s in plan.sites
        }
    if part == "adapters":
        return {a.name: a.model_dump() for a in plan.adapters}
    if part == "never":
        return {path: "" for protection in plan.never for path in protection.covers}
    return dict.fromkeys(getattr(plan, part), "")


def _changes(part: str, was: dict[str, Any], now: dict[str, Any]) -> Iterable[str]:
    for name in was.keys() - now.keys():
        yield f"{part}: `{name}` is no longer there"
    for name in now.keys() - was.keys():
        yield f"{part}: `{name}` is new"
    for name in was.keys() & now.keys():
        for key, (before, after) in _unequal(was[name], now[name]):
            yield f"{part}: `{name}` {key}: {before} -> {after}"


def _unequal(was: Any, now: Any, lead: str = "") -> list[tuple[str, tuple[Any, Any]]]:
    if isinstance(was, dict) and isinstance(now, dict):
        keys = sorted(was.keys() | now.keys())
        return [found for key in keys for found in _unequal(was.get(key), now.get(key), f"{lead}.{key}".strip("."))]
    return [] if was == now else [(lead, (was, now))]


def _first(lines: list[str]) -> tuple[str, ...]:
    ordered = sorted(lines)
    more = (f"and {len(lines) - _SHOWN} more differences",) if len(lines) > _SHOWN else ()
    return (*ordered[:_SHOWN], *more)
