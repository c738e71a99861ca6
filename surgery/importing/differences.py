"""Everything in which a file and a plan differ, as one diagnostic (E0519)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches

from surgery.diagnostics import Diagnostic
from surgery.importing.foreign import ForeignAdapter
from surgery.importing.matching import Matching
from surgery.importing.slots import Slot
from surgery.planning.grouping import group_paths
from surgery.planning.words import counted

_SHOWN = 8
_COMPARED = 2000  # names to look for the nearest among
_NUMBER = re.compile(r"(?<![^.])[0-9]+(?![^.])")  # a segment of its own
_KINDS = {"lora": re.compile(r"[._]lora(_[AB]|_up|_down|\.up|\.down|_linear)"), "loha": re.compile(r"\.hada_w"),
          "lokr": re.compile(r"\.lokr_w")}  # fmt: skip


def unfit(adapter: ForeignAdapter, notes: Iterable[str], helps: Iterable[str] = ()) -> Diagnostic:
    """The diagnostic of a file that does not fit, with what differs."""
    return Diagnostic(
        "E0519",
        "the adapter does not fit the plan",
        place=str(adapter.file),
        notes=tuple(notes),
        helps=tuple(helps) or ("give the adapter that was trained with this plan, or plan as it was trained",),
    )


def key_differences(matching: Matching) -> tuple[list[str], list[str]]:
    """How keys and slots are no bijection: notes that list it, and what to do. Empty where they are one."""
    keys_of = matching.filled_by()
    alphas = {key for keys in matching.alphas.values() for key in keys}
    missing = [slot for slot, keys in keys_of.items() if not keys]
    unexpected = [key for key, slots in matching.fills.items() if not slots and key not in alphas]
    ambiguous = [
        f"`{key}` may be {_either(slot.key for slot in slots)}"
        for key, slots in matching.fills.items()
        if len(slots) > 1
    ]
    ambiguous += [f"{_both(keys)} are for `{slot.key}`" for slot, keys in keys_of.items() if len(keys) > 1]
    ambiguous += [f"{_both(keys)} are for `{path}`" for path, keys in matching.alphas.items() if len(keys) > 1]
    notes = [
        _keys_note("missing in the file", [slot.key for slot in missing]),
        _keys_note("not in the plan", unexpected),
        listed("ambiguous", ambiguous),
    ]
    notes = [note for note in notes if note]
    if notes and matching.spelled.prefix:
        notes.append(f"with `{matching.spelled.prefix}` read as the prefix of the file's paths")
    helps = [*_method_helps(matching, unexpected), *_nearest(matching, unexpected, missing)] if notes else []
    return notes, helps


def ambiguous_readings(matchings: Sequence[Matching]) -> list[str]:
    """Keys that mean one tensor by one reading of the whole file, and another by another."""
    first, *others = matchings
    return [
        f"`{key}` may be {_either([slot.key for slot in (*slots, *other.fills[key])])}"
        for other in others
        for key, slots in first.fills.items()
        if slots != other.fills[key]
    ]


def shape_differences(adapter: ForeignAdapter, wrong: Mapping[Slot, str]) -> tuple[list[str], list[str]]:
    """Keys stored in another shape than the plan's, and the rank to plan with where that explains it."""
    alike: dict[tuple[tuple[int, ...], tuple[int, ...]], list[str]] = {}
    ranks: set[int] = set()
    for slot, key in wrong.items():
        stored = adapter.tensors[key].shape
        alike.setdefault((stored, slot.shape), []).append(key)
        ranks.add(_rank(slot, stored))
    lines = [f"{_grouped(keys)} {[*stored]} for {[*wanted]}" for (stored, wanted), keys in alike.items()]
    notes = [f"{counted(len(wrong), 'tensor')} of another shape: {'; '.join(_first(lines))}"] if wrong else []
    if len(ranks) == 1 and (rank := ranks.pop()):
        return notes, [f"the file has rank {rank}: plan with `r = {rank}`"]
    return notes, ["plan with the file's rank at each of these modules"] if lines and 0 not in ranks else []


def _rank(slot: Slot, stored: tuple[int, ...]) -> int:
    """The rank of a stored factor where the rank alone is another one than the plan's; else 0."""
    if slot.site is None or len(stored) != len(slot.shape):
        return 0
    planned = slot.site.settings.get("r")
    changed = {(own, wanted) for own, wanted in zip(stored, slot.shape, strict=True) if own != wanted}
    [(own, wanted)] = changed if len(changed) == 1 else {(0, None)}
    return own if wanted == planned else 0


def _method_helps(matching: Matching, unexpected: Sequence[str]) -> list[str]:
    planned = {slot.site.method for slot in matching.slots if slot.site}
    held = {name for name, pattern in _KINDS.items() if any(map(pattern.search, unexpected))}
    if held and planned and not held & planned:
        return [f"the file holds {' and '.join(sorted(held))}, the plan has {' and '.join(sorted(planned))}"]
    return []


def _nearest(matching: Matching, unexpected: Sequence[str], missing: Sequence[Slot]) -> list[str]:
    """For the first keys that are not in the plan, the missing ones that they are nearest to."""
    own = {f"{slot.path}.{slot.parameter}": slot.key for slot in missing[:_COMPARED]}
    near = []
    for key in unexpected[:3]:
        found = get_close_matches(key.removeprefix(matching.spelled.prefix), own, n=1, cutoff=0.7)
        near += [f"`{key}` is near `{own[found[0]]}`"] if found else []
    return near


def _keys_note(what: str, keys: Sequence[str]) -> str:
    return f"{counted(len(keys), 'tensor')} {what}: {_grouped(keys)}" if keys else ""


def listed(what: str, lines: Sequence[str]) -> str:
    """The first lines, and how many more there are; nothing for none."""
    return f"{len(lines):,} {what}: {', '.join(_first(lines))}" if lines else ""


def _grouped(keys: Sequence[str]) -> str:
    """The keys with those in one place of several blocks as one: `layers.[0:32].mlp.lora_A.weight`."""
    alike: dict[str, list[str]] = {}
    for key in keys:
        alike.setdefault(_NUMBER.sub("*", key), []).append(key)
    groups = [group for members in alike.values() for group in group_paths(members)]
    more = sum(map(len, groups[_SHOWN:]))
    return ", ".join(map(str, groups[:_SHOWN])) + (f", and {more:,} more" if more else "")


def _first(lines: Sequence[str]) -> list[str]:
    more = len(lines) - _SHOWN
    return [*lines[:_SHOWN], *([f"and {more:,} more"] if more > 0 else [])]


def _either(names: Iterable[str]) -> str:
    return " or ".join(f"`{name}`" for name in dict.fromkeys(names))


def _both(names: Iterable[str]) -> str:
    return " and ".join(f"`{name}`" for name in names)
