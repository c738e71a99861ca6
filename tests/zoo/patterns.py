"""The paths that a label's patterns stand for."""

from __future__ import annotations

import re
from collections.abc import Iterable


def matching(patterns: Iterable[str], names: Iterable[str]) -> set[str]:
    """The names that patterns stand for, `*` being one segment; each has to match one."""
    known, found = list(names), set()
    for pattern in patterns:
        expression = re.compile(re.escape(pattern).replace(r"\*", r"[^.]+"))
        matches = {name for name in known if expression.fullmatch(name)}
        assert matches, f"`{pattern}` matches nothing"
        found |= matches
    return found
