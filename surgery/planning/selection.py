"""Three-valued sets of modules and parameters: what is in, what may be (and why that is not known); the rest is not."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Selection:
    """Paths of modules and parameters that are in the set, and those that may be, each with the reason for the doubt.

    The two never overlap. A path in neither is known not to be in the set.

    A parameter is a member where a `param(...)` names it. Those that only belong to a set of modules, because
    of the module that holds them, are `implied`: `&` and `-` need to know of them, but nothing is done to them.
    """

    yes: frozenset[str] = frozenset()
    maybe: Mapping[str, str] = field(default_factory=dict)
    implied: frozenset[str] = frozenset()

    @property
    def possible(self) -> frozenset[str]:
        """Everything that is or may be in the set."""
        return self.yes | self.maybe.keys()

    @property
    def members(self) -> frozenset[str]:
        """What is in the set for certain, less what is implied."""
        return self.yes - self.implied

    @property
    def doubtful(self) -> Mapping[str, str]:
        """What may be in the set, less what is implied, with the reasons."""
        if not self.implied:
            return self.maybe
        return {path: why for path, why in self.maybe.items() if path not in self.implied}

    def __or__(self, other: Selection) -> Selection:
        yes = self.yes | other.yes
        named = self._named | other._named if self.implied or other.implied else frozenset()
        maybe = _reasons((self, other), (self.maybe.keys() | other.maybe.keys()) - yes)
        return Selection(yes, maybe, (self.implied | other.implied) - named)

    def __and__(self, other: Selection) -> Selection:
        yes = self.yes & other.yes
        maybe = _reasons((self, other), (self.possible & other.possible) - yes)
        return Selection(yes, maybe, self.implied & other.implied)

    def __sub__(self, other: Selection) -> Selection:
        yes = self.yes - other.possible
        maybe = _reasons((self, other), self.possible - other.yes - yes)
        return Selection(yes, maybe, (self.implied & yes) | (self.implied & maybe.keys()))

    @property
    def _named(self) -> frozenset[str]:
        """Everything but what is implied."""
        return self.possible - self.implied

    def kept(self, paths: frozenset[str]) -> Selection:
        """What of the set is among `paths`."""
        maybe = {path: why for path, why in self.maybe.items() if path in paths}
        return Selection(self.yes & paths, maybe, self.implied & paths)

    def known_by(self, vouched: frozenset[str]) -> Selection:
        """The set once its author has vouched that `vouched`, and nothing else that was in doubt, is in it."""
        yes = self.yes | vouched
        return Selection(yes, implied=self.implied & yes)


def union(selections: Iterable[Selection]) -> Selection:
    """What is in any of them."""
    found = list(selections)
    yes = frozenset[str]().union(*(selection.yes for selection in found))
    doubtful = {path for selection in found for path in selection.maybe} - yes
    implied = frozenset[str]().union(*(selection.implied for selection in found))
    if implied:
        implied -= frozenset[str]().union(*(selection._named for selection in found))
    return Selection(yes, _reasons(found, doubtful), implied)


def _reasons(selections: Iterable[Selection], paths: Iterable[str]) -> dict[str, str]:
    found = list(selections)
    return {path: next(s.maybe[path] for s in found if path in s.maybe) for path in paths}
