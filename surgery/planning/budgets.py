"""What the plan costs, and whether the author's budget allows it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal

from surgery.diagnostics import Diagnostic, Diagnostics, SurgeryError
from surgery.graph import Graph
from surgery.language import tree
from surgery.language.spec import LoadedSpec
from surgery.planning.conditions import COMPARE
from surgery.planning.plan import Adapter, Limit, Site, Totals
from surgery.planning.words import limit_text

_BYTES_SAVED = 4  # PEFT saves adapters in fp32 unless the model is cast
_BYTES_OPTIMIZED = 8  # AdamW keeps two fp32 moments of every trained number


def count_totals(graph: Graph, sites: Iterable[Site], adapters: Iterable[Adapter], trained: Iterable[str]) -> Totals:
    """Parameters added and trained, and the bytes they take; shared storage counts once."""
    sites = list(sites)
    added = sum(site.added for site in sites) + sum(adapter.shared for adapter in adapters)
    frozen = sum(site.frozen for site in sites)
    in_full = sum({p.storage: p.numel for path in trained for p in graph[path].parameters}.values())
    trainable = added - frozen + in_full
    return Totals(
        added=added,
        frozen=frozen,
        trained=in_full,
        trainable=trainable,
        total=graph.parameters,
        share=trainable / graph.parameters if graph.parameters else 0.0,
        adapter_bytes=_BYTES_SAVED * (added + in_full),
        optimizer_bytes=_BYTES_OPTIMIZED * trainable,
    )


def check_budgets(spec: LoadedSpec, totals: Totals, sites: Sequence[Site], found: Diagnostics) -> list[Limit]:
    """Every line of every `budget` with what the plan has. E0303 for each that it breaks."""
    limits = []
    for setting in (limit for budget in spec.tree.budgets for limit in budget.limits):
        try:
            value = float(spec.evaluate(setting.value))
        except SurgeryError as error:
            found.extend(error.diagnostics)
            continue
        limit = _limit(setting, value, totals)
        limits.append(limit)
        if not COMPARE[limit.operator](limit.actual, limit.limit):
            found.add(_exceeded(setting, limit, sites, totals))
    return limits


def _limit(setting: tree.Setting, value: float, totals: Totals) -> Limit:
    operator: Literal["<", "<="] = "<" if setting.operator == "<" else "<="
    if setting.name.name == "adapter":
        return Limit(
            name="adapter",
            operator=operator,
            limit=value,
            actual=totals.adapter_bytes,
            unit="bytes",
            place=setting.span.place,
        )
    is_share = isinstance(setting.value, tree.Share)
    return Limit(
        name="trainable",
        operator=operator,
        limit=value,
        actual=totals.share if is_share else totals.trainable,
        unit="share" if is_share else "parameters",
        place=setting.span.place,
    )


def _exceeded(setting: tree.Setting, limit: Limit, sites: Sequence[Site], totals: Totals) -> Diagnostic:
    per_target: dict[str, int] = {}
    for site in sites:
        per_target[site.target] = per_target.get(site.target, 0) + site.added
    notes = [f"target `{name}` adds {added:,} parameters" for name, added in per_target.items()]
    if totals.trained:
        notes.append(f"`train` trains {totals.trained:,} parameters in full")
    what, exactly = "trainable parameters", f"{totals.trainable:,} of {totals.total:,} parameters"
    if limit.name == "adapter":
        what, exactly = "adapter", f"{totals.adapter_bytes:,} bytes"
    actual, allowed = (limit_text(value, limit.unit) for value in (limit.actual, limit.limit))
    return Diagnostic(
        "E0303",
        f"the {what} would come to {actual}, and the budget is {limit.operator} {allowed}",
        setting.span,
        label=f"the plan has {exactly}",
        notes=tuple(notes),
        helps=("lower `r`, narrow a target, or raise the budget",),
    )
