"""Three-valued sets of modules: what is in, what may be in (and why that is not known), and the rest, which is not."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Selection:
    """Module paths that are in the set, and those that may be, each with the reason for the doubt.

    The two never overlap. A path in neither is known not to be in the set.
    """

    yes: frozenset[str] = frozenset()
    maybe: Mapping[str, str] = field(default_factory=dict)

    @property
    def possible(self) -> frozenset[str]:
        """Everything that is or may be in the set."""
        return self.yes | self.maybe.keys()

    def __or__(self, other: Selection) -> Selection:
        yes = self.yes | other.yes
        return Selection(yes, _reasons((self, other), (self.maybe.keys() | other.maybe.keys()) - yes))

    def __and__(self, other: Selection) -> Selection:
        yes = self.yes & other.yes
        return Selection(yes, _reasons((self, other), (self.possible & other.possible) - yes))

    def __sub__(self, other: Selection) -> Selection:
        yes = self.yes - other.possible
        return Selection(yes, _reasons((self, other), self.possible - other.yes - yes))

    def known_by(self, vouched: frozenset[str]) -> Selection:
        """The set once its author has vouched that `vouched`, and nothing else that was in doubt, is in it."""
        return Selection(self.yes | vouched)


def union(selections: Iterable[Selection]) -> Selection:
    """What is in any of them."""
    found = list(selections)
    yes = frozenset[str]().union(*(selection.yes for selection in found))
    doubtful = {path for selection in found for path in selection.maybe} - yes
    return Selection(yes, _reasons(found, doubtful))


def _reasons(selections: Iterable[Selection], paths: Iterable[str]) -> dict[str, str]:
    found = list(selections)
    return {path: next(s.maybe[path] for s in found if path in s.maybe) for path in paths}
