"""`surgery check`: syntax, names, types, method settings and lints. Needs no model."""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any

from surgery.diagnostics import Diagnostic, SurgeryError, render


def add_parser(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "check",
        help="parse specs and check names, types and method settings; needs no model",
        description="Parse specs and check their names, types and method settings. Needs no model.",
        epilog="example: surgery check specs/*.surg --format json",
    )
    parser.add_argument("specs", nargs="+", metavar="F.surg")
    parser.add_argument("--format", choices=("text", "json"), default="text", help="how to print (default: text)")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Check every file; 1 if any has an error."""
    outcomes = [_check(path) for path in args.specs]
    if args.format == "json":
        report = [
            {"file": path, "ok": ok, "diagnostics": [diagnostic.to_json() for diagnostic in found]}
            for path, (ok, _, found) in zip(args.specs, outcomes, strict=True)
        ]
        print(json.dumps({"files": report}, indent=2))
    else:
        _print_text(args.specs, outcomes)
    return 0 if all(ok for ok, _, _ in outcomes) else 1


def _check(path: str) -> tuple[bool, str, tuple[Diagnostic, ...]]:
    """Whether the file is without errors, a summary of it, and what was found."""
    from surgery.language import load
    from surgery.language.method_use import check_methods

    try:
        spec = load(path)
    except SurgeryError as error:
        return False, "", error.diagnostics
    found = (*spec.diagnostics, *check_methods(spec))
    counts = {"target": len(spec.tree.targets), "protection": len(spec.tree.nevers), "param": len(spec.tree.params)}
    summary = ", ".join(f"{count} {what}{'s' if count != 1 else ''}" for what, count in counts.items())
    return not any(diagnostic.is_error for diagnostic in found), summary, found


def _print_text(paths: list[str], outcomes: list[tuple[bool, str, tuple[Diagnostic, ...]]]) -> None:
    from surgery.cli.main import use_colour

    for path, (ok, summary, _) in zip(paths, outcomes, strict=True):
        if ok:
            print(f"{path}: ok ({summary})")
    sys.stdout.flush()
    found = [diagnostic for _, _, diagnostics in outcomes for diagnostic in diagnostics]
    if found:
        sys.stderr.write(render(found, colour=use_colour(sys.stderr)))
