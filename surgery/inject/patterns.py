"""One regular expression that matches exactly a set of module paths."""

from __future__ import annotations

import re
from collections.abc import Iterable

MODEL_PREFIX = "base_model.model."  # what PEFT's wrappers put before the paths of the wrapped model


def exactly(paths: Iterable[str]) -> str:
    """A pattern that `re.fullmatch` finds in each of these dotted paths and in no other, common parts factored out.

    >>> exactly(["blocks.0.to_q", "blocks.0.to_k", "blocks.1.to_q", "blocks.1.to_k"])
    'blocks\\\\.(?:0|1)\\\\.(?:to_k|to_q)'
    """
    return _pattern(frozenset(tuple(path.split(".")) for path in paths))


def anywhere_wrapped(pattern: str) -> str:
    """The pattern, with or without the prefix of PEFT's wrapper: `PeftMixedModel.load_adapter` matches with it."""
    return f"(?:{re.escape(MODEL_PREFIX)})?(?:{pattern})"


def anchored(pattern: str) -> str:
    """The pattern as a key of `rank_pattern`: PEFT allows any prefix before a key that does not say `^`."""
    return f"^(?:{pattern})"


def _pattern(tails: frozenset[tuple[str, ...]]) -> str:
    rests: dict[str, set[tuple[str, ...]]] = {}
    for head, *rest in tails:
        rests.setdefault(head, set()).add(tuple(rest))
    heads: dict[frozenset[tuple[str, ...]], list[str]] = {}
    for head in sorted(rests, key=_by_number):
        heads.setdefault(frozenset(rests[head]), []).append(head)
    return _either([_either([re.escape(head) for head in same]) + _tail(rest) for rest, same in heads.items()])


def _tail(rest: frozenset[tuple[str, ...]]) -> str:
    longer = rest - {()}
    if not longer:
        return ""
    tail = r"\." + _pattern(longer)
    return f"(?:{tail})?" if () in rest else tail


def _either(patterns: list[str]) -> str:
    return patterns[0] if len(patterns) == 1 else f"(?:{'|'.join(patterns)})"


def _by_number(name: str) -> tuple[int, str]:
    """Numbers first and in their order, so that people can read the list."""
    return (int(name), "") if name.isascii() and name.isdigit() else (10**9, name)
