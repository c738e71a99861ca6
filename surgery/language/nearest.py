"""The nearest known name, for the help of a diagnostic."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


def did_you_mean(name: str, known: Iterable[str], otherwise: str = "") -> tuple[str, ...]:
    """`did you mean `x`?`, or, where nothing is near, `otherwise` if there is any."""
    by_folded = {candidate.lower(): candidate for candidate in known}
    near = get_close_matches(name.lower(), by_folded, n=1, cutoff=0.6)
    if near:
        return (f"did you mean `{by_folded[near[0]]}`?",)
    return (otherwise,) if otherwise else ()


def listed(names: Iterable[str]) -> str:
    """`a`, `b` and `c`"""
    quoted = [f"`{name}`" for name in names]
    return " and ".join([", ".join(quoted[:-1]), quoted[-1]] if len(quoted) > 1 else quoted)
