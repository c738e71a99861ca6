"""`surgery capture F.surg`: build the model a spec names, record it, write its graph."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from surgery.graph import Graph

_EXAMPLE = """\
example:
  surgery capture specs/f5_tts/f5_base.surg       writes specs/f5_tts/f5_base.graph.json

The model is built on fake tensors: at full size, in seconds, without its memory. This is the only planning
step that runs the model's code; commit the graph file, and everyone else plans from it.
"""


def add_parser(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "capture",
        help="build the model a spec names and write its graph",
        epilog=_EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("spec", metavar="F.surg")
    parser.add_argument("--out", metavar="FILE", type=Path, help="where to write (default: the spec's graph file)")
    parser.add_argument("--set", metavar="NAME=VALUE", action="append", default=[], help="give a param another value")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    import surgery
    from surgery.language import parse_override

    spec = surgery.load(args.spec, **dict(parse_override(text) for text in args.set))
    print("importing the model's package ...", file=sys.stderr)
    from surgery.capturing.build import allow_local_modules
    from surgery.capturing.from_spec import capture_spec

    allow_local_modules()
    started = time.perf_counter()
    graph = capture_spec(spec)
    path = args.out or spec.graph_path
    graph.save(path)
    print(summary(graph))
    size = path.stat().st_size
    print(f"wrote {path} ({size / 1000:,.0f} kB) in {time.perf_counter() - started:.1f} s", file=sys.stderr)
    return 0


def summary(graph: Graph) -> str:
    """What was found, in a few lines."""
    families: dict[str, set[int]] = {}
    roles: dict[str, int] = {}
    for module in graph.modules.values():
        if module.block:
            families.setdefault(module.block.family, set()).add(module.block.index)
        for role in module.roles:
            roles[role] = roles.get(role, 0) + 1
    blocks = ", ".join(f"{family} x {len(members)}" for family, members in families.items()) or "none"
    lines = [
        f"{len(graph.modules):,} modules, {graph.parameters:,} parameters, {len(graph.nodes):,} ops",
        f"blocks: {blocks}",
        f"roles: {', '.join(f'{role} {count}' for role, count in roles.items()) or 'none'}",
    ]
    for fact in ("unreached", "bypassed"):
        found = [path for path, module in graph.modules.items() if getattr(module, fact).answer == "yes"]
        if found:
            lines.append(f"{fact}: {', '.join(found[:5])}{f' and {len(found) - 5} more' if len(found) > 5 else ''}")
    return "\n".join(lines)
