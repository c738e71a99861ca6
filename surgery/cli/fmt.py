"""`surgery fmt`: one layout for every spec."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from surgery.diagnostics import Diagnostics, Source, SurgeryError


def add_parser(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "fmt",
        help="lay specs out in the one canonical way",
        description="Lay specs out in the one canonical way, keeping comments. `-` reads standard input.",
        epilog="example: surgery fmt --check specs/*.surg",
    )
    parser.add_argument("specs", nargs="+", metavar="F.surg")
    parser.add_argument(
        "--check", action="store_true", help="change nothing; list files that are not formatted and exit 1"
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Format every file that can be; errors of the others are shown together, at the end."""
    found = Diagnostics()
    changed: list[str] = []
    for path in args.specs:
        try:
            if _format(path, args.check):
                changed.append(path)
        except SurgeryError as error:  # noqa: PERF203 - one file's errors must not keep the others unformatted
            found.extend(error.diagnostics)
    for path in changed:
        print(f"{path}: not formatted" if args.check else f"{path}: formatted")
    found.raise_errors()
    return 1 if args.check and changed else 0


def _format(path: str, only_check: bool) -> bool:
    """Whether the layout of a file was, or would be, changed. Of standard input, the result is printed."""
    from surgery.files import decode_text, read_text, replace_file
    from surgery.language import format_text

    name = "<stdin>" if path == "-" else path
    text = decode_text(sys.stdin.buffer.read(), name, what="spec") if path == "-" else read_text(path, what="spec")
    formatted = format_text(Source(name, text))
    if path == "-" and not only_check:
        sys.stdout.write(formatted)
        return False
    if formatted != text and not only_check:
        replace_file(path, formatted)
    return formatted != text
