"""`surgery swaps`: whether adapters can be swapped into a running model, by their locks."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from surgery.diagnostics import Diagnostic, render

if TYPE_CHECKING:
    from surgery.planning.lock import Lock
    from surgery.planning.swapping import Readiness

_EXAMPLE = """\
example:
  surgery swaps voice.surg whisper.surg shout.surg

The first is the plan of the running model, the others are to be swapped into it (`surgery.Runtime`). Their locks
are compared; no model, graph or torch is needed. Without --max-rank, the rank to prepare the model with is the
largest of all.

exit codes: 0 all can be swapped in, 1 one cannot, or errors
"""


def add_parser(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "swaps",
        help="say which adapters can be swapped into a running model, by their locks",
        description="Check whether adapters can be swapped into a running model without compiling anything again.",
        epilog=_EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("prepared", metavar="PREPARED.surg", type=Path, help="the running model's spec, or its lock")
    parser.add_argument("others", metavar="OTHER.surg", type=Path, nargs="+", help="specs, or locks, to swap in")
    parser.add_argument("--max-rank", metavar="N", type=int, help="the rank that the model is prepared with")
    parser.add_argument("--format", choices=("text", "json"), default="text", help="how to print (default: text)")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print for each lock whether it is ready. 1 if one is not."""
    from surgery.planning.swapping import not_preparable, readiness, widest

    prepared, *others = (_lock(path) for path in (args.prepared, *args.others))
    max_rank = widest([prepared, *others]) if args.max_rank is None else args.max_rank
    found = dict(zip(map(str, args.others), (readiness(prepared, other, max_rank) for other in others), strict=True))
    if args.format == "json":
        report = [{"file": path, **one.to_json()} for path, one in found.items()]
        print(json.dumps({"prepared": str(args.prepared), "max_rank": max_rank, "files": report}, indent=2))
    else:
        _print_text(found, not_preparable(prepared, max_rank, place=str(args.prepared)))
    return 0 if all(one.ready for one in found.values()) else 1


def _lock(path: Path) -> Lock:
    from surgery.planning.lock import read_lock_file

    return read_lock_file(path if path.suffix == ".lock" else path.with_name(path.name + ".lock"))


def _print_text(found: dict[str, Readiness], unprepared: Diagnostic | None) -> None:
    from surgery.cli.main import use_colour
    from surgery.planning.swapping import not_swappable

    for path, one in found.items():
        if one.ready:
            print("\n".join(_lines(path, one)))
    sys.stdout.flush()
    # Where the model cannot be prepared, that is all there is to say of the others too.
    refused = (
        [unprepared]
        if unprepared
        else [
            not_swappable("the adapter cannot be swapped in", one.obstacles, place=path)
            for path, one in found.items()
            if not one.ready
        ]
    )
    if refused:
        sys.stderr.write(render(refused, colour=use_colour(sys.stderr)))


def _lines(path: str, one: Readiness) -> Iterator[str]:
    from surgery.planning.grouping import group_paths
    from surgery.planning.words import counted

    yield f"{path}: can be swapped into a model prepared with max_rank = {one.max_rank}"
    by_padding: dict[int, list[str]] = {}
    for module, ranks in one.padding.items():
        by_padding.setdefault(ranks, []).append(module)
    kinds = {
        counted(ranks, "rank") + " of zeros" if ranks else "without padding": modules
        for ranks, modules in sorted(by_padding.items())
    }
    kinds["not adapted by it"] = list(one.silent)
    for what, modules in kinds.items():
        if modules:
            yield f"  {counted(len(modules), 'module')}, {what}: {', '.join(map(str, group_paths(modules)))}"
