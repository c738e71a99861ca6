"""`surgery capture F.surg`: build the model a spec names, record it, write its graph."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn

    from surgery.graph import Graph

_EXAMPLE = """\
examples:
  surgery capture specs/f5_tts/f5_base.surg       writes specs/f5_tts/f5_base.graph.json
  surgery capture specs/minilm/minilm.surg --weights model.safetensors
                                                  and checks that the checkpoint fits the model

The model is built on fake tensors: at full size, in seconds, without its memory. This is the only planning
step that runs the model's code; commit the graph file, and everyone else plans from it.

Of a checkpoint only the headers are read: its keys, shapes and types are compared with the model's, after the mapping
of the spec's `weights` statement. Where they do not fit, nothing is written. The facts of the graph do not depend on
it: how a weight is initialised is a fact of the code.
"""

WEIGHTS_HELP = "a safetensors file of the base model, a folder of shards, or its index; may be given several times"


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
    parser.add_argument(
        "--weights", metavar="FILE", type=Path, action="append", help=f"compare with the model: {WEIGHTS_HELP}"
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    import surgery
    from surgery.language import parse_override

    spec = surgery.load(args.spec, **dict(parse_override(text) for text in args.set))
    print("importing the model's package ...", file=sys.stderr)
    from surgery.capturing.build import allow_local_modules
    from surgery.capturing.checkpoint import read_checkpoint
    from surgery.capturing.from_spec import capture_spec
    from surgery.capturing.weights import fit_weights

    allow_local_modules()
    checkpoint = read_checkpoint(args.weights) if args.weights else None
    fits = []

    def compare(model: nn.Module) -> None:
        if checkpoint:
            fits.append(fit_weights(model, checkpoint, spec.tree.weights))

    started = time.perf_counter()
    graph = capture_spec(spec, on_built=compare)
    path = args.out or spec.graph_path
    graph.save(path)
    print(summary(graph))
    for fit in fits[-1:]:  # a model that did not run on fake tensors was built, and compared, a second time
        print(fit)
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
