"""`expect`: how many modules the author counts on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from surgery.diagnostics import Diagnostic, Label, SurgeryError
from surgery.graph import Graph
from surgery.language import tree
from surgery.planning import facts
from surgery.planning.conditions import COMPARE
from surgery.planning.select import Selector
from surgery.planning.words import counted, quantity


def check_expect(
    selector: Selector,
    expect: tree.Expect,
    paths: Sequence[str],
    subject: str,
    of: Sequence[tree.Set],
    notes: Sequence[str] = (),
) -> None:
    """E0203 if the count of `paths` is not what `expect` says; `notes` add to it.

    `of` holds the set that is counted, then those taken from it. Where a part of them matches nothing, and that is
    reported, the count is no news.
    """
    try:
        low = selector.spec.evaluate(expect.low, selector.count)
        high = selector.spec.evaluate(expect.high, selector.count) if expect.high else None
    except SurgeryError as error:
        selector.found.extend(error.diagnostics)
        return
    if any(selector.is_reported(node) for node in (*of, expect)):
        return
    actual = len(paths)
    fits = low <= actual <= high if high is not None else COMPARE[expect.operator](actual, low)
    if fits:
        return
    wanted = f"{low:g} to {high:g}" if high is not None else f"{expect.operator.replace('==', '')} {low:g}".strip()
    selector.found.add(
        Diagnostic(
            "E0203",
            f"{subject} has {quantity(selector.graph, paths)}, not the {wanted} expected",
            expect.span,
            label=f"expects {wanted}",
            labels=(Label(of[0].span, f"has {actual:,}"),),
            notes=(*coverage(selector.graph, paths), *notes),
            helps=(f"look at the modules with `surgery explain`; if they are right, write `expect {actual}`",),
        )
    )


def coverage(graph: Graph, paths: Sequence[str]) -> tuple[str, ...]:
    """Where modules or parameters lie unevenly in a family of blocks: how many of them each block has."""
    per_block = Counter((b.family, b.index) for path in paths if (b := graph.holder(path).block))
    sizes = facts.family_sizes(graph, dict.fromkeys(family for family, _ in per_block))
    notes = []
    for family, size in sizes.items():
        by_count: dict[int, list[int]] = {}
        for index in range(size):
            by_count.setdefault(per_block[family, index], []).append(index)
        parts = [
            f"{'none' if count == 0 else count} in {_blocks(blocks)}"
            for count, blocks in sorted(by_count.items(), key=lambda item: -len(item[1]))
        ]
        notes.append(f"{family} ({counted(size, 'block')}): {'; '.join(parts)}")
    return tuple(notes)


def _blocks(indices: Sequence[int]) -> str:
    """`block 3`, `blocks 2 to 21`, `blocks 0, 1, 7`"""
    first, last = indices[0], indices[-1]
    if len(indices) == 1:
        return f"block {first}"
    if last - first + 1 == len(indices):
        return f"blocks {first} to {last}"
    return f"blocks {', '.join(map(str, indices[:12]))}" + (", ..." if len(indices) > 12 else "")
