"""`surgery plan`: what a spec would do to its model, from the graph file. Loads no torch."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from surgery.collector import paused_collector
from surgery.diagnostics import render

if TYPE_CHECKING:
    from surgery.graph import Graph
    from surgery.language import LoadedSpec
    from surgery.planning.planner import Planned


def add_parser(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "plan",
        help="show what a spec would do to its model, and what changed against the lock",
        description="Resolve a spec against its graph file and compare the plan with the lock. Runs no model code.",
        epilog="example: surgery plan f5.surg --set rank=32 --out plan.json\n\n"
        "exit codes: 0 no change against the lock, 1 errors, 2 changes, or no lock yet",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_spec_arguments(parser)
    parser.add_argument("--format", choices=("text", "json"), default="text", help="how to print (default: text)")
    parser.add_argument("--out", metavar="FILE", help="also write the plan as JSON to this file")
    parser.set_defaults(run=run)


def add_spec_arguments(parser: argparse.ArgumentParser) -> None:
    """What every command that plans takes: the spec, and what changes how it is planned."""
    parser.add_argument("spec", metavar="F.surg")
    add_planning_arguments(parser)


def add_planning_arguments(parser: argparse.ArgumentParser) -> None:
    """Another graph than the spec's own, and other values of its parameters."""
    parser.add_argument("--graph", metavar="G.graph.json", help="plan on this graph, not on the spec's own")
    parser.add_argument(
        "--set", metavar="NAME=VALUE", action="append", default=[], help="give a `param` another value; repeatable"
    )


def planned_from(args: argparse.Namespace) -> tuple[LoadedSpec, Graph, Planned]:
    """The spec that the arguments name, its graph, and its plan. Raises SurgeryError if one cannot be read."""
    with paused_collector():
        from surgery.graph.file import read_graph
        from surgery.language import load, parse_override
        from surgery.planning.planner import make_plan

        spec = load(args.spec, **dict(parse_override(text) for text in args.set))
        graph = read_graph(Path(args.graph) if args.graph else spec.graph_path)
        return spec, graph, make_plan(spec, graph)


def show_diagnostics(planned: Planned, *, but: str = "") -> None:
    """Everything the plan has to say, to standard error; not what has the code `but`."""
    from surgery.cli.main import use_colour

    sys.stdout.flush()
    if shown := [diagnostic for diagnostic in planned.diagnostics if diagnostic.code != but]:
        sys.stderr.write(render(shown, colour=use_colour(sys.stderr)))


def run(args: argparse.Namespace) -> int:
    """Print the plan, or its errors. 0 no change against the lock, 1 errors, 2 changes or no lock."""
    from surgery.files import replace_file
    from surgery.planning.changes import compare
    from surgery.planning.lock import read_lock

    spec, _, planned = planned_from(args)
    plan = planned.plan
    if not plan.applyable:
        if args.format == "json":
            print(plan.model_dump_json(indent=2))
        show_diagnostics(planned)
        return 1
    lock = read_lock(spec.lock_path, plan)
    changes = compare(plan, lock) if lock else None
    if args.out:
        replace_file(args.out, plan.model_dump_json(indent=2) + "\n")
    if args.format == "json":
        print(plan.model_dump_json(indent=2))
    else:
        from surgery.cli.main import use_colour
        from surgery.planning.view import render_plan

        sys.stdout.write(render_plan(plan, changes, colour=use_colour(sys.stdout)))
    show_diagnostics(planned)
    return 0 if changes is not None and changes.is_empty else 2
