"""A plan as text for people, made from the plan's own data and its difference from the lock."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from surgery.methods import METHODS
from surgery.planning.changes import Changes, Pair
from surgery.planning.evidence import by_evidence
from surgery.planning.grouping import group_paths
from surgery.planning.plan import Adapter, Plan, Protection, Site
from surgery.planning.words import bytes_text, counted, limit_text, method_text, scale_text, share_text, value_text

Item = TypeVar("Item")
Key = TypeVar("Key", bound=Hashable)
_COLOURS = {"+": "\x1b[32m", "-": "\x1b[31m", "~": "\x1b[33m", "bold": "\x1b[1m", "dim": "\x1b[2m"}
_OFF = "\x1b[0m"
_COUNTS = ("added", "trained", "total")  # the other totals follow from these


@dataclass(frozen=True)
class Ink:
    """Colours text, or leaves it as it is."""

    colour: bool = False

    def __call__(self, style: str, text: str) -> str:
        return f"{_COLOURS[style]}{text}{_OFF}" if self.colour else text


def render_plan(plan: Plan, changes: Changes | None, *, colour: bool = False) -> str:
    """The whole plan. `changes` is its difference from the lock; None where there is no lock."""
    ink = Ink(colour)
    sections = [
        _header(plan, ink),
        *_targets(plan, ink),
        *_protections(plan, ink),
        _assumptions(plan, ink),
        *_exclusions(plan, ink),
        _switched_off(plan, ink),
        _modules("train", "trained in full", plan.trained, ink),
        _modules("checkpoint", "recomputed in the backward pass", plan.checkpointed, ink),
        _roles(plan, ink),
        _budget(plan, ink),
        _totals(plan, ink),
        _changes(changes, ink),
        [ink("bold", summary(plan, changes))],
    ]
    return "\n\n".join("\n".join(lines) for lines in map(list, sections) if lines) + "\n"


def summary(plan: Plan, changes: Changes | None) -> str:
    """The last line: what the plan comes to, and whether that is news."""
    totals = plan.totals
    trained = f", {totals.trained:,} to train in full" if totals.trained else ""
    share = f" ({share_text(totals.share)} of {totals.total:,})"
    text = f"Plan: {counted(len(plan.sites), 'site')}, {totals.added:,} parameters to add{trained}{share}."
    if changes is None:
        return f"{text} There is no lock yet: accept the plan with `surgery lock`."
    if changes.is_empty:
        return f"{text} No change against the lock."
    parts = {"added": changes.added, "removed": changes.removed, "changed": changes.changed}
    counts = [f"{len(sites):,} {word}" for word, sites in parts.items() if sites]
    return f"{text} Changes against the lock: {', '.join(counts) or 'no site, see above'}."


def _header(plan: Plan, ink: Ink) -> Iterator[str]:
    yield ink("bold", f"{plan.spec}" + (f" on {plan.model}" if plan.model else ""))
    yield f"  spec   {_short(plan.fingerprints.spec)}"
    versions = ", ".join(f"{name} {version}" for name, version in plan.fingerprints.versions.items())
    yield f"  graph  {_short(plan.fingerprints.graph)}" + (f"  captured with {versions}" if versions else "")
    if plan.params:
        yield f"  param  {'  '.join(f'{name} = {value_text(value)}' for name, value in plan.params.items())}"


def _short(fingerprint: str) -> str:
    return fingerprint[: len("sha256:") + 12]


def _targets(plan: Plan, ink: Ink) -> Iterator[list[str]]:
    several = len(plan.adapters) > 1
    first_in = {site.adapter: site.target for site in reversed(plan.sites)}
    for name, sites in _by(plan.sites, lambda site: site.target).items():
        adapter = f"  adapter {sites[0].adapter}" if several else ""
        lines = [ink("bold", f"target {name}") + ink("dim", f"  {sites[0].place}{adapter}")]
        rows = [row for group in _by(sites, _likeness).values() for row in _site_rows(group)]
        rows += [_shared_row(adapter) for adapter in plan.adapters if adapter.shared and first_in[adapter.name] == name]
        yield lines + _table(rows, ink("+", "  + "))


def _likeness(site: Site) -> tuple[Any, ...]:
    """What sites on one line of the view have in common."""
    return (site.kind, bool(site.parameter), tuple(site.shape), site.method, str(site.settings), site.scale, site.added)


def _site_rows(sites: Sequence[Site]) -> Iterator[list[str]]:
    first = sites[0]
    shape = "x".join(map(str, first.shape))
    what = f"parameter {shape} of {first.kind}" if first.parameter else f"{first.kind} {shape}"
    for group in group_paths(site.full_path for site in sites):
        yield [
            str(group),
            counted(len(group), "site"),
            what,
            method_text(first.method, first.settings) + scale_text(first.method, first.scale),
            f"+{first.added * len(group):,}",
        ]


def _shared_row(adapter: Adapter) -> list[str]:
    """What the sites of an adapter use together, counted once."""
    return [f"(shared by {counted(adapter.sites, 'site')})", "", "", adapter.method, f"+{adapter.shared:,}"]


def _table(rows: Iterable[Sequence[str]], lead: str) -> list[str]:
    """Rows with their columns aligned, the last one to the right."""
    rows = list(rows)
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row[:-1], widths, strict=False)]
        lines.append(lead + "  ".join([*cells, row[-1].rjust(widths[-1])]))
    return lines


def _protections(plan: Plan, ink: Ink) -> Iterator[list[str]]:
    for guard in plan.never:
        head = ink("bold", f"never {guard.selector}") + f"  {counted(len(guard.covers), 'module')}"
        lines = [head + ink("dim", f"  {guard.place}")]
        if guard.because:
            lines.append(f"    because {guard.because}")
        yield lines + list(_covered(guard, ink))


def _covered(guard: Protection, ink: Ink) -> Iterator[str]:
    """What a protection covers, grouped by the evidence for it."""
    for evidence, paths in by_evidence(guard.covers, lambda path: guard.evidence.get(path, "")):
        yield from _grouped(paths)
        if evidence:
            yield ink("dim", f"      {evidence}")


def _assumptions(plan: Plan, ink: Ink) -> Iterator[str]:
    for assumed in plan.assumed:
        yield ink("bold", f"assume {assumed.fact}") + ink("dim", f"  {assumed.place}")
        if assumed.because:
            yield f"    because {assumed.because}"
        yield from _grouped(assumed.covers)


def _exclusions(plan: Plan, ink: Ink) -> Iterator[list[str]]:
    taken_by = _by(plan.excluded, lambda taken: (taken.selector, taken.place, taken.because, taken.target))
    for (selector, place, because, target), taken in taken_by.items():
        head = ink("bold", f"exclude {selector}") + f"  {counted(len(taken), 'module')} of target {target}"
        lines = [head + ink("dim", f"  {place}")]
        if because:
            lines.append(f"    because {because}")
        yield lines + list(_grouped([one.path for one in taken]))


def _grouped(paths: Sequence[str]) -> Iterator[str]:
    for group in group_paths(paths):
        yield f"    {group}" + (f"  {counted(len(group), 'module')}" if len(group) > 1 else "")


def _switched_off(plan: Plan, ink: Ink) -> Iterator[str]:
    for off in plan.switched_off:
        yield ink("bold", f"target {off.target} is off") + f": not {off.when}" + ink("dim", f"  {off.place}")


def _modules(name: str, meaning: str, paths: Sequence[str], ink: Ink) -> Iterator[str]:
    if paths:
        yield ink("bold", name) + f"  {counted(len(paths), 'module')} {meaning}"
        yield from _grouped(paths)


def _roles(plan: Plan, ink: Ink) -> Iterator[str]:
    if plan.roles:
        yield ink("bold", "adapted or trained, by role")
        rows = []
        for one in plan.roles:
            share = share_text(one.touched / one.parameters) if one.parameters else ""
            rows.append((one.role, share, f"of {one.parameters:,} parameters"))
        yield from _table(rows, "    ")


def _budget(plan: Plan, ink: Ink) -> Iterator[str]:
    if plan.budget:
        yield ink("bold", "budget")
        rows = []
        for limit in plan.budget:
            actual, most = (limit_text(value, limit.unit) for value in (limit.actual, limit.limit))
            rows.append((limit.name, actual, f"{limit.operator} {most}"))
        yield from _table(rows, "    ")


def _totals(plan: Plan, ink: Ink) -> Iterator[str]:
    totals = plan.totals
    yield ink("bold", "totals")
    rows = [("added", f"{totals.added:,}")]
    if totals.trained:
        rows.append(("trained in full", f"{totals.trained:,}"))
    rows += [
        ("parameters of the model", f"{totals.total:,}"),
        ("adapter on disk, fp32", bytes_text(totals.adapter_bytes)),
        *_besides(plan),
        ("optimiser state, AdamW", bytes_text(totals.optimizer_bytes)),
    ]
    yield from _table(rows, "    ")


def _besides(plan: Plan) -> Iterator[tuple[str, str]]:
    """What the files of the adapters hold beside the parameters that are counted."""
    for site in {site.adapter: site for site in reversed(plan.sites)}.values():
        if site.method in METHODS and (what := METHODS[site.method].saved_besides(site.settings)):
            yield f"  and besides, of {site.method}", what


def _changes(changes: Changes | None, ink: Ink) -> Iterator[str]:
    if changes is None or (changes.is_empty and not changes.versions):
        return
    yield ink("bold", "against the lock")
    yield from _changed_sites(changes, ink)
    for one in changes.lists:
        for mark, paths in (("+", one.gained), ("-", one.lost)):
            yield from (ink(mark, f"  {mark} {one.what}") + f"  {group}" for group in group_paths(paths))
        if not one.gained and not one.lost:
            yield ink("~", f"  ~ {one.what}")
    totals = {f"{name} parameters": changes.totals[name] for name in _COUNTS if name in changes.totals}
    for fields in (totals, {"graph": changes.graph} if changes.graph else {}, changes.versions):
        yield from (ink("~", f"  ~ {name}") + f"  {_pair_text(pair)}" for name, pair in fields.items())


def _changed_sites(changes: Changes, ink: Ink) -> Iterator[str]:
    for mark, sites in (("+", changes.added), ("-", changes.removed)):
        for (target, method), same in _by(sites, lambda site: (site.target, site.method)).items():
            for group in group_paths(site.full_path for site in same):
                yield ink(mark, f"  {mark} {group}") + f"  {counted(len(group), 'site')}  {method}, target {target}"
    for text, changed in _by(changes.changed, lambda site: _fields_text(site.fields)).items():
        for group in group_paths(site.path for site in changed):
            yield ink("~", f"  ~ {group}") + f"  {text}"


def _fields_text(fields: dict[str, Pair]) -> str:
    return ", ".join(f"{name} {_pair_text(pair)}" for name, pair in fields.items())


def _pair_text(pair: Pair) -> str:
    old, new = (_short(value) if str(value).startswith("sha256:") else value_text(value) for value in pair)
    return f"{old} -> {new}"


def _by(items: Iterable[Item], key: Callable[[Item], Key]) -> dict[Key, list[Item]]:
    """Items grouped by a key, in order."""
    groups: dict[Key, list[Item]] = {}
    for item in items:
        groups.setdefault(key(item), []).append(item)
    return groups
