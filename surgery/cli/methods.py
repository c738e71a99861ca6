"""`surgery methods`: the adapter methods, and what each one takes."""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any

_EXAMPLES = """\
examples:
  surgery methods
  surgery methods lokr
  surgery methods --format json
"""


def add_parser(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "methods",
        help="list the adapter methods; or one method's settings",
        description="List the adapter methods that a target can name, or describe one: formula, layers, settings.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("method", metavar="METHOD", nargs="?")
    parser.add_argument("--format", choices=("text", "json"), default="text")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print the list or one page. Raises SurgeryError: E0401 for a method that there is not."""
    from surgery.methods import METHODS
    from surgery.methods.describe import method_json, method_text, methods_text

    chosen = METHODS if args.method is None else {args.method: METHODS.get(args.method) or _unknown(args.method)}
    if args.format == "json":
        sys.stdout.write(json.dumps([method_json(method) for method in chosen.values()], indent=2) + "\n")
    elif args.method is None:
        sys.stdout.write(methods_text(METHODS))
    else:
        sys.stdout.write(method_text(chosen[args.method]))
    return 0


def _unknown(name: str) -> Any:
    from surgery.diagnostics import Diagnostic, SurgeryError
    from surgery.language.method_use import ways_out

    raise SurgeryError(
        Diagnostic("E0401", f"there is no method `{name}`", place=f"surgery methods {name}", helps=ways_out(name))
    )
