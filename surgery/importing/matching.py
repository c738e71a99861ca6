"""Which tensor of a file fills which tensor of a plan, inferred from the keys alone.

A file spells the path of a module with dots, or with `_` for each dot (kohya, LyCORIS), behind one prefix
(`base_model.model.`, `transformer.`, `diffusion_model.`, `lora_unet_`) or relative to a module that all paths of the
plan lie in. No prefix is known beforehand: the one is taken by which the most keys become paths of the plan. Keys of a
bijection all have the same prefix, and its length follows from the lengths of keys and paths, so there is one at most.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from surgery.importing.slots import Slot
from surgery.importing.spelling import ALPHA, Spellings, adapter_names, unwrapped

PEFT_PREFIX = "base_model.model."
_TRIED = 2  # of the prefixes with the most keys; more can only serve an error


class Spelled(NamedTuple):
    """How the paths of a file are spelled.

    A path of the plan is `below` + x, the file has `prefix` + x, with `_` for dots where `underscored`.
    """

    underscored: bool
    prefix: str
    below: str = ""


@dataclass
class Matching:
    """What each key may fill under one spelling. `fills` has every key; `alphas` those of the paths' alphas."""

    spelled: Spelled
    slots: Sequence[Slot]
    fills: dict[str, list[Slot]] = field(default_factory=dict)
    alphas: dict[str, list[str]] = field(default_factory=dict)

    def filled_by(self) -> dict[Slot, list[str]]:
        """The keys for each slot: one each, where the file fits."""
        found: dict[Slot, list[str]] = {slot: [] for slot in self.slots}
        for key, slots in self.fills.items():
            for slot in slots:
                found[slot].append(key)
        return found

    @property
    def is_bijection(self) -> bool:
        alphas = [key for keys in self.alphas.values() for key in keys]
        once = len(alphas) == len(set(alphas)) == len(self.alphas)
        weights = self.fills.keys() - set(alphas)
        filled = self.filled_by().values()
        return (
            once
            and all(len(self.fills[key]) == 1 for key in weights)
            and not any(self.fills[key] for key in alphas)
            and all(len(keys) == 1 for keys in filled)
        )

    @property
    def matched(self) -> int:
        return sum(bool(slots) for slots in self.fills.values())


def match(keys: Sequence[str], slots: Sequence[Slot]) -> list[Matching]:
    """The bijections between keys and slots that are different; where there is none, the nearest to one alone."""
    index = _Index(slots)
    tried: list[Matching] = []
    for name in adapter_names(keys, slots):
        spellings = Spellings(slots, name)
        readings = {key: list(spellings.readings(key)) for key in keys}
        votes = Counter(spelled for found in readings.values() for spelled in set(index.spelled(found)))
        likely = [spelled for spelled, _ in votes.most_common(_TRIED)] or [Spelled(False, "")]
        tried += [index.matching(readings, spelled) for spelled in likely]
    bijections = [matching for matching in tried if matching.is_bijection]
    if bijections:
        first, *others = bijections
        return [first, *(other for other in others if other.fills != first.fills)]
    return [max(tried, key=lambda matching: matching.matched)]


class _Index:
    """The paths of a plan, found by how a file may spell them."""

    def __init__(self, slots: Sequence[Slot]) -> None:
        self.slots = slots
        self._by_place: dict[tuple[str, str], list[Slot]] = {}
        for slot in slots:
            self._by_place.setdefault((slot.path, slot.parameter), []).append(slot)
        paths = dict.fromkeys(slot.path for slot in slots if slot.path)
        self._sites = {slot.path for slot in slots if slot.site}
        self._dotted = {below: _by_name(paths, below, False) for below in ("", *_common(list(paths)))}
        self._underscored = _by_name(paths, "", True)

    def spelled(self, readings: Iterable[tuple[str, str]]) -> Iterator[Spelled]:
        """Every way of spelling paths in which one of these readings is a slot of the plan."""
        for stem, parameter in readings:
            for spelled, rest in self._spelled(stem):
                if any(self._at(path, parameter) for path in self._paths(spelled)[rest]):
                    yield spelled

    def _spelled(self, stem: str) -> Iterator[tuple[Spelled, str]]:
        for below, paths in self._dotted.items():
            for rest in _endings(stem, "."):
                prefix = stem[: len(stem) - len(rest)]
                # Where part of the plan's paths is not in the file, the file may not have other names in its place.
                if rest in paths and (not below or prefix in ("", PEFT_PREFIX)):
                    yield Spelled(False, prefix, below), rest
        if "." not in stem:
            for rest in _endings(stem, "_"):
                if rest in self._underscored:
                    yield Spelled(True, stem[: len(stem) - len(rest)]), rest

    def _paths(self, spelled: Spelled) -> Mapping[str, list[str]]:
        return self._underscored if spelled.underscored else self._dotted[spelled.below]

    def _at(self, path: str, parameter: str) -> bool:
        return (path, parameter) in self._by_place or (parameter == ALPHA and path in self._sites)

    def matching(self, readings: Mapping[str, Iterable[tuple[str, str]]], spelled: Spelled) -> Matching:
        """What every key fills under one spelling."""
        found = Matching(spelled, self.slots)
        paths = self._paths(spelled)
        for key, ways in readings.items():
            filled = found.fills[key] = list(self._by_place.get(("", key), ()))
            for stem, parameter in ways:
                if not stem.startswith(spelled.prefix) or (spelled.underscored and "." in stem):
                    continue
                for path in paths.get(stem[len(spelled.prefix) :], ()):
                    wanted = self._by_place.get((path, parameter), ())
                    filled += wanted
                    if not wanted and parameter == ALPHA and path in self._sites:
                        found.alphas.setdefault(path, []).append(key)
        return found


def _by_name(paths: Iterable[str], below: str, underscored: bool) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for path in paths:
        name = unwrapped(path.removeprefix(below))
        found.setdefault(name.replace(".", "_") if underscored else name, []).append(path)
    return found


def _common(paths: list[str]) -> Iterator[str]:
    """The modules that all paths lie in, as `a.` and `a.b.`"""
    names = [path.split(".")[:-1] for path in paths]
    shared = ""
    for first, last in zip(min(names, default=[]), max(names, default=[]), strict=False):
        if first != last:
            break
        shared += f"{first}."
        yield shared


def _endings(text: str, separator: str) -> Iterator[str]:
    """The text, and what follows each separator in it."""
    yield text
    at = text.find(separator)
    while at >= 0:
        yield text[at + 1 :]
        at = text.find(separator, at + 1)
