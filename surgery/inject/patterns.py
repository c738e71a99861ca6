"""One regular expression that matches exactly a set of module paths."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

MODEL_PREFIX = "base_model.model."  # what PEFT's wrappers put before the paths of the wrapped model
_LISTED = 3  # so many numbers in a row are written as a range
_NUMBER = re.compile("0|[1-9][0-9]{0,8}", re.ASCII)


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
    r"""The pattern as a key of `rank_pattern`: PEFT allows any prefix before a key without `^`, and a line break
    after one without `\Z`."""
    return rf"^(?:{pattern})\Z"


def all_but(pattern: str) -> str:
    """A pattern for every string that the given one does not match as a whole."""
    return rf"(?s:(?!(?:{pattern})\Z).*)"


def _pattern(tails: frozenset[tuple[str, ...]]) -> str:
    rests: dict[str, set[tuple[str, ...]]] = {}
    for head, *rest in tails:
        rests.setdefault(head, set()).add(tuple(rest))
    heads: dict[frozenset[tuple[str, ...]], list[str]] = {}
    for head in sorted(rests, key=_by_number):
        heads.setdefault(frozenset(rests[head]), []).append(head)
    return _either([_either(list(_names(same))) + _tail(rest) for rest, same in heads.items()])


def _tail(rest: frozenset[tuple[str, ...]]) -> str:
    longer = rest - {()}
    if not longer:
        return ""
    tail = r"\." + _pattern(longer)
    return f"(?:{tail})?" if () in rest else tail


def _either(patterns: Sequence[str]) -> str:
    return patterns[0] if len(patterns) == 1 else f"(?:{'|'.join(patterns)})"


def _by_number(name: str) -> tuple[int, str]:
    """Numbers first and in their order, so that people can read the list."""
    return (int(name), "") if _NUMBER.fullmatch(name) else (10**9, name)


def _names(names: Iterable[str]) -> Iterator[str]:
    """Patterns for these names, in their order: numbers in a row as ranges of digits, anything else as it is."""
    row: list[int] = []
    for name in names:
        number = int(name) if _NUMBER.fullmatch(name) else None
        if row and number != row[-1] + 1:
            yield from _row(row)
            row = []
        if number is None:
            yield re.escape(name)
        else:
            row.append(number)
    yield from _row(row)


def _row(row: Sequence[int]) -> Iterator[str]:
    if len(row) < _LISTED:
        yield from map(str, row)
    else:
        yield from _digits(row[0], row[-1])


def _digits(low: int, high: int) -> Iterator[str]:
    """Patterns of character classes for the numbers from `low` to `high`, in order: 0 to 21 is [0-9], 1[0-9], 2[01]."""
    while low <= high:
        size = 1  # the largest power of ten such that [low, low + size) is a full block within the range
        while low and low % (size * 10) == 0 and low + size * 10 - 1 <= high:
            size *= 10
        head, digits = divmod(low // size, 10)
        last = min(9, digits + (high - low + 1) // size - 1)
        yield (str(head) if head else "") + _class(digits, last) + "[0-9]" * (len(str(size)) - 1)
        low += (last - digits + 1) * size


def _class(first: int, last: int) -> str:
    if first == last:
        return str(first)
    return f"[{first}{last}]" if last == first + 1 else f"[{first}-{last}]"
