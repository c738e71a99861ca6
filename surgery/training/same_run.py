"""Whether a run that is resumed is still the run that was started."""

from __future__ import annotations

from surgery.diagnostics import Diagnostic, SurgeryError
from surgery.planning import Plan
from surgery.planning.changes import Changes, compare
from surgery.planning.lock import lock_of
from surgery.training.config import TrainConfig
from surgery.training.state import RunRecord

_SHOWN = 8


def check_plan(recorded: Plan, plan: Plan, place: str) -> None:
    """Raises SurgeryError (E0512) with the difference when `plan` does something else than the run's own.

    Places, wording and findings do not count, nor does the fingerprint of the spec's text by itself.
    """
    lines = change_lines(compare(plan, lock_of(recorded)))
    if lines:
        spec = ["the fingerprint of the spec"] if recorded.fingerprints.spec != plan.fingerprints.spec else []
        raise SurgeryError(
            Diagnostic(
                "E0512",
                "the run was started with another plan",
                place=place,
                notes=shortened(lines + spec),
                helps=(
                    "go on with the spec, params and graph that the run was started with",
                    "or train this plan into another folder: `--out`",
                ),
            )
        )


def check_settings(record: RunRecord, config: TrainConfig, *, samples: int, processes: int, place: str) -> None:
    """Raises SurgeryError (E0512) when a setting that decides the outcome differs from the run's."""
    lines = config.changes(record.config)
    if record.samples != samples:
        lines.append(f"samples in the data: {record.samples} -> {samples}")
    if record.processes != processes:
        lines.append(f"processes: {record.processes} -> {processes}")
    if lines:
        raise SurgeryError(
            Diagnostic(
                "E0512",
                "the run was started with other settings",
                place=place,
                notes=shortened(lines),
                helps=("resume with the settings of the start, or train into another folder: `--out`",),
            )
        )


def change_lines(changes: Changes) -> list[str]:
    """What a plan changes, a line each; empty when it changes nothing."""
    if changes.is_empty:
        return []
    lines = [f"graph: {changes.graph[0]} -> {changes.graph[1]}"] if changes.graph else []
    lines += [f"site `{site.full_path}` is new" for site in changes.added]
    lines += [f"site `{site.full_path}` is gone" for site in changes.removed]
    for site in changes.changed:
        lines += [f"site `{site.path}`: {name}: {was} -> {now}" for name, (was, now) in site.fields.items()]
    for found in changes.lists:
        lines += [f"{found.what}: `{path}` is new" for path in found.gained]
        lines += [f"{found.what}: `{path}` is gone" for path in found.lost]
    return (
        lines or [f"{name}: {was} -> {now}" for name, (was, now) in changes.totals.items()] or ["a `never` or `assume`"]
    )


def shortened(lines: list[str]) -> tuple[str, ...]:
    """The first of many lines, and how many are left out."""
    left = len(lines) - _SHOWN
    return (*lines[:_SHOWN], *([f"and {left} more"] if left > 0 else []))
