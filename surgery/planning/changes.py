"""What a plan changes against the lock."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from surgery.planning.lock import Lock, LockedSite, lock_of
from surgery.planning.plan import Plan

Pair = tuple[Any, Any]


@dataclass(frozen=True)
class ChangedSite:
    """A site that is in both, with the old and the new value of each field that differs."""

    path: str
    fields: dict[str, Pair]


@dataclass(frozen=True)
class ChangedList:
    """A list of modules that gained or lost some: `what` names it, as `never role(modulation)`."""

    what: str
    gained: Sequence[str]
    lost: Sequence[str]


@dataclass(frozen=True)
class Changes:
    """The difference of a plan from the lock. Versions of packages are shown, but make no change by themselves."""

    added: Sequence[LockedSite] = ()
    removed: Sequence[LockedSite] = ()
    changed: Sequence[ChangedSite] = ()
    lists: Sequence[ChangedList] = ()
    totals: dict[str, Pair] = field(default_factory=dict)
    graph: Pair | None = None
    versions: dict[str, Pair] = field(default_factory=dict)

    @property
    def is_empty(self) -> bool:
        """Whether the plan does what the lock says, on the same graph."""
        return not (self.added or self.removed or self.changed or self.lists or self.totals or self.graph)


def compare(plan: Plan, lock: Lock) -> Changes:
    """What `plan` changes against `lock`."""
    new = lock_of(plan)
    before, after = ({site.full_path: site for site in side.sites} for side in (lock, new))
    graphs = (lock.fingerprints.graph, new.fingerprints.graph)
    return Changes(
        added=[site for path, site in after.items() if path not in before],
        removed=[site for path, site in before.items() if path not in after],
        changed=_changed_sites(before, after),
        lists=list(_changed_lists(lock, new)),
        totals=_differences(lock.totals.model_dump(), new.totals.model_dump()),
        graph=graphs if graphs[0] != graphs[1] else None,
        versions=_differences(lock.fingerprints.versions, new.fingerprints.versions),
    )


def _changed_sites(before: dict[str, LockedSite], after: dict[str, LockedSite]) -> list[ChangedSite]:
    found = []
    for path, site in after.items():
        if path in before and before[path] != site:
            old, new = before[path].model_dump(), site.model_dump()
            fields = _differences({**old.pop("settings"), **old}, {**new.pop("settings"), **new})
            found.append(ChangedSite(path, fields))
    return found


def _differences(before: dict[str, Any], after: dict[str, Any]) -> dict[str, Pair]:
    names = dict.fromkeys([*before, *after])
    return {name: (before.get(name), after.get(name)) for name in names if before.get(name) != after.get(name)}


def _changed_lists(before: Lock, after: Lock) -> Iterable[ChangedList]:
    old, new = _lists(before), _lists(after)
    for what in dict.fromkeys([*old, *new]):
        was, now = old.get(what, []), new.get(what, [])
        known, left = set(was), set(now)
        gained = [path for path in now if path not in known]
        lost = [path for path in was if path not in left]
        if gained or lost or (what in old) != (what in new):
            yield ChangedList(what, gained, lost)


def _lists(lock: Lock) -> dict[str, list[str]]:
    """Every list of modules in a lock, by what it is."""
    found = {f"never {guard.selector}": guard.covers for guard in lock.never}
    found |= {f"assume {assumed.fact}": assumed.covers for assumed in lock.assumed}
    for target in dict.fromkeys(taken.target for taken in lock.excluded):
        found[f"excluded from {target}"] = [taken.path for taken in lock.excluded if taken.target == target]
    return found | {key: paths for key, paths in (("train", lock.trained), ("checkpoint", lock.checkpointed)) if paths}
