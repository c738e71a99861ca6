"""Long lists of module paths as a few globs: `blocks.[0:22].attn.{to_q,to_k,to_out.0}` for 66 of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from typing import TypeAlias

Part: TypeAlias = "str | tuple[int, ...]"  # a name, or numbers of numbered children in increasing order
Parts: TypeAlias = "tuple[Part, ...]"


@dataclass(frozen=True)
class PathGroup:
    """Paths that start with `head` and end in one of `tails`. Numbers in it are the children's own names."""

    head: Parts
    tails: tuple[Parts, ...] = ((),)

    def paths(self) -> Iterator[str]:
        """Every path of the group."""
        for tail in self.tails:
            choices = [(part,) if isinstance(part, str) else map(str, part) for part in (*self.head, *tail)]
            for names in product(*choices):
                yield ".".join(names)

    def __len__(self) -> int:
        return sum(1 for _ in self.paths())

    def __str__(self) -> str:
        head = [_part_text(part) for part in self.head]
        tails = [".".join(map(_part_text, tail)) for tail in self.tails]
        if len(tails) == 1:
            return ".".join([*head, *filter(None, tails)]) or "(the model itself)"
        return ".".join([*head, "{" + ",".join(tails) + "}"])


def group_paths(paths: Iterable[str]) -> list[PathGroup]:
    """Groups that hold exactly these paths, in the order of their first ones."""
    split = dict.fromkeys(tuple(_as_part(name) for name in path.split(".")) for path in paths)
    return _with_tails(_with_ranges(list(split)))


def _as_part(name: str) -> Part:
    is_number = name.isascii() and name.isdecimal() and (name == "0" or not name.startswith("0"))
    return (int(name),) if is_number else name


def _with_ranges(entries: list[Parts]) -> list[Parts]:
    """Entries that differ in the number at one place only become one, place by place."""
    for place in range(max(map(len, entries), default=0)):
        merged: dict[tuple[Parts, Parts, bool], Parts] = {}
        for entry in entries:
            if place >= len(entry) or isinstance(entry[place], str):
                merged[entry, (), False] = entry
                continue
            key = (entry[:place], entry[place + 1 :], True)
            known = merged.get(key)
            numbers = {*entry[place], *(known[place] if known else ())}
            merged[key] = (*entry[:place], tuple(sorted(n for n in numbers if isinstance(n, int))), *entry[place + 1 :])
        entries = list(merged.values())
    return entries


def _with_tails(entries: Sequence[Parts]) -> list[PathGroup]:
    """Entries with the same start, up to the name after their last range, become one group with several tails."""
    families: dict[tuple[Parts, bool], list[Parts]] = {}
    for entry in entries:
        at = max((i + 1 for i, part in enumerate(entry) if len(part) > 1 and not isinstance(part, str)), default=0)
        if len(entry) - at > 1:
            at += 1
        # A path that ends here cannot stand in braces beside those that go on.
        families.setdefault((entry[:at], at == len(entry)), []).append(entry[at:])
    return [_group(head, tails) for (head, _), tails in families.items()]


def _group(head: Parts, tails: Sequence[Parts]) -> PathGroup:
    while all(len(tail) > 1 for tail in tails) and len({tail[0] for tail in tails}) == 1:
        head, tails = (*head, tails[0][0]), [tail[1:] for tail in tails]
    return PathGroup(head, tuple(tails))


def _part_text(part: Part) -> str:
    if isinstance(part, str):
        return part
    if len(part) == 1:
        return str(part[0])
    step = part[1] - part[0]
    if part == tuple(range(part[0], part[-1] + 1, step)) and (step == 1 or len(part) > 2):
        return f"[{part[0]}:{part[-1] + 1}]" if step == 1 else f"[{part[0]}:{part[-1] + 1}:{step}]"
    return "{" + ",".join(map(str, part)) + "}"
