"""`surgery facts G.graph.json`: what the graph knows of every module."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from surgery.graph import Graph

_EXAMPLES = """\
examples:
  surgery facts f5_base.graph.json --role modulation
  surgery facts f5_base.graph.json --path "transformer_blocks.0.**"
  surgery facts f5_base.graph.json --format json
"""


def add_parser(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "facts",
        help="list a graph's modules with facts, roles and evidence",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("graph", metavar="G.graph.json")
    parser.add_argument("--role", action="append", default=[], help="only modules with this role (repeatable)")
    parser.add_argument("--path", metavar="GLOB", help="only modules that a glob matches")
    parser.add_argument("--format", choices=("text", "json"), default="text")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    from surgery.graph.file import read_graph
    from surgery.planning.facts_view import facts_json, facts_text

    graph = read_graph(args.graph)
    paths = _chosen(graph, args.role, args.path)
    sys.stdout.write((facts_json if args.format == "json" else facts_text)(graph, paths))
    return 0


def _chosen(graph: Graph, roles: list[str], glob: str | None) -> list[str]:
    """The modules that the options ask for. Raises SurgeryError: E0103 for a role, E0009, E0201, E0202 for a glob."""
    from surgery.diagnostics import Diagnostic, Diagnostics, Source, Span
    from surgery.graph import ROLES
    from surgery.language.globs import parse_glob
    from surgery.language.nearest import did_you_mean
    from surgery.planning.matching import ModuleTree

    found = Diagnostics()
    for role in roles:
        if role not in ROLES:
            helps = did_you_mean(role, ROLES) or (f"roles are {', '.join(ROLES)}",)
            found.add(Diagnostic("E0103", f"unknown role `{role}`", place="--role", helps=helps))
    matched = frozenset(graph)
    if glob is not None:
        quoted = Source("--path", f'"{glob}"')
        tree, pattern = ModuleTree(graph), parse_glob(glob, Span(quoted, 0, len(quoted.text)))
        matched = tree.match(pattern)
        found.extend(tree.complaints(pattern, matched))
    found.raise_errors()
    return [path for path in graph if path in matched and (not roles or graph[path].roles.keys() & set(roles))]
