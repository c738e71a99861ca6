"""`surgery explain`: why a module is treated as it is, or what a diagnostic code means."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from surgery.cli.plan import add_planning_arguments, planned_from
from surgery.diagnostics import CODES, Diagnostic, SurgeryError


def add_parser(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "explain",
        help="say why a module or parameter is targeted, excluded, protected or untouched; or explain a code",
        description="Say what the plan of a spec does to one module, and why; or print the page of a diagnostic code.",
        epilog="examples:\n  surgery explain f5.surg transformer_blocks.0.attn_norm.linear\n  surgery explain E0301",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("spec", metavar="F.surg|CODE")
    parser.add_argument("module", metavar="MODULE", nargs="?", help="the path of a module or of a parameter")
    add_planning_arguments(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print the explanation. 1 if there is no such module or code; a plan with errors is explained all the same."""
    if args.module is None:
        sys.stdout.write(_page(args.spec))
        return 0
    from surgery.planning.explain import explain

    _, graph, planned = planned_from(args)
    sys.stdout.write(explain(planned.plan, graph, args.module))
    errors = sum(diagnostic.is_error for diagnostic in planned.diagnostics)
    if errors:
        print(f"\nthe plan has {errors} error{'s' if errors > 1 else ''}: see `surgery plan {args.spec}`")
    return 0


def _page(code: str) -> str:
    if code.upper() not in CODES:
        from surgery.language.nearest import did_you_mean

        helps = did_you_mean(code.upper(), CODES) if code[:1].upper() in "EW" else ()
        hint = "give a module too, `surgery explain F.surg MODULE`, or a code, `surgery explain E0301`"
        raise SurgeryError(
            Diagnostic(
                "E0204", f"`{code}` is no diagnostic code", place=f"surgery explain {code}", helps=(*helps, hint)
            )
        )
    return CODES[code.upper()].page
