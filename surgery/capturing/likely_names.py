"""Which `weights` statement would make a checkpoint fit a model, worked out from their names, shapes and types."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from itertools import takewhile
from typing import TypeAlias

Form: TypeAlias = "tuple[object, ...]"  # what has to be equal besides the name: the shape, the sort of type
Forms: TypeAlias = "Mapping[str, Form]"
Names: TypeAlias = "tuple[str, ...]"
Rename: TypeAlias = "tuple[Names, Names]"  # two prefixes: the checkpoint's and the model's

_TRIED = 6
_MOST_RENAMES = 4
_MOST_IGNORED = 8


@dataclass(frozen=True)
class Likely:
    """Prefixes to rename and patterns to ignore, as they are written; and the keys of the model that fit then."""

    renames: tuple[str, ...]
    ignored: tuple[str, ...]
    fitting: frozenset[str]

    def __str__(self) -> str:
        ignored = ", ".join(f'"{pattern}"' for pattern in self.ignored)
        return "  ".join([*self.renames, *([f"ignore {ignored}"] if ignored else [])])


def likely_mapping(theirs: Forms, ours: Forms, is_all: Callable[[Collection[str]], bool]) -> Likely | None:
    """The renamings of prefixes that let most keys fit, by name and form; nothing where none lets more fit.

    Where what fits `is_all` that the model needs, the keys that are left over are to be ignored.
    """
    renames: list[Rename] = []
    fitting = _fitting(theirs, ours, renames)
    while len(renames) < _MOST_RENAMES:
        tried = {rename: _fitting(theirs, ours, [*renames, rename]) for rename in _candidates(theirs, ours, fitting)
                 if not any(_nested(rename[0], other) for other, _ in renames)}  # fmt: skip
        best = max(tried, key=lambda rename: (len(tried[rename]), -len(rename[0]) - len(rename[1])), default=None)
        if best is None or len(tried[best]) <= len(fitting):
            break
        renames.append(best)
        fitting = tried[best]
    ignored = _ignored(theirs.keys() - fitting.values(), fitting.values()) if is_all(fitting) else ()
    if not renames and not ignored:
        return None
    written = tuple(f'"{_pattern(old)}" -> "{_pattern(new)}"' for old, new in renames)
    return Likely(written, ignored, frozenset(fitting))


def _fitting(theirs: Forms, ours: Forms, renames: Iterable[Rename]) -> dict[str, str]:
    """The model's keys that fit, each with the checkpoint's own name of it."""
    starts = {".".join((*old, "")): ".".join((*new, "")) for old, new in renames}
    fitting = {}
    for key, form in theirs.items():
        start = next((start for start in starts if key.startswith(start)), "")
        name = starts.get(start, "") + key[len(start) :]
        if ours.get(name) == form:
            fitting[name] = key
    return fitting


def _candidates(theirs: Forms, ours: Forms, fitting: Mapping[str, str]) -> list[Rename]:
    """The pairs of prefixes, up to the first number of a key, behind which most keys that do not fit yet agree."""
    prefixes: dict[tuple[Names, Form], list[Names]] = {}
    for name in ours.keys() - fitting.keys():
        for prefix, rest in _splits(name):
            prefixes.setdefault((rest, ours[name]), []).append(prefix)
    votes: Counter[Rename] = Counter()
    for key in theirs.keys() - fitting.values():
        for prefix, rest in _splits(key):
            votes.update((prefix, other) for other in prefixes.get((rest, theirs[key]), ()) if other != prefix)
    ranked = sorted(votes, key=lambda rename: (-votes[rename], len(rename[0]) + len(rename[1]), rename))
    return ranked[:_TRIED]


def _splits(key: str) -> Iterable[tuple[Names, Names]]:
    names = tuple(key.split("."))
    before = sum(1 for _ in takewhile(lambda name: not name.isdecimal(), names[:-1]))
    return ((names[:at], names[at:]) for at in range(before + 1))


def _nested(one: Names, other: Names) -> bool:
    shorter = min(len(one), len(other))
    return one[:shorter] == other[:shorter]


def _ignored(left: Iterable[str], fitting: Iterable[str]) -> tuple[str, ...]:
    """Patterns for the keys left over that fit none of the others; nothing where that takes many, or whole blocks."""
    taken = {start for key in fitting for start in _starts(key)}
    groups: dict[str, list[str]] = {}
    for key in sorted(left):
        groups.setdefault(next((start for start in _starts(key) if start not in taken), key), []).append(key)
    if any(start.rpartition(".")[2].isdecimal() for start in groups):  # more blocks than the model has
        return ()
    patterns = tuple(keys[0] if len(keys) == 1 else f"{start}.**" for start, keys in groups.items())
    return patterns if len(patterns) <= _MOST_IGNORED else ()


def _starts(key: str) -> Iterable[str]:
    names = key.split(".")
    return (".".join(names[:end]) for end in range(1, len(names) + 1))


def _pattern(prefix: Names) -> str:
    return ".".join((*prefix, "**"))
