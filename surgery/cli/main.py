"""The `surgery` command: one file a subcommand, each with `add_parser(subparsers)` and `run(args) -> int`."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import NoReturn

import surgery
from surgery.diagnostics import SurgeryError, render

COMMANDS = (
    "check",
    "fmt",
    "capture",
    "facts",
    "plan",
    "explain",
    "lock",
    "methods",
    "swaps",
    "verify",
    "train",
    "export",
    "import",
    "demo",
)

_EXAMPLE = """\
a first session:
  surgery check f5.surg            names, types, lints; no model needed
  surgery capture f5.surg          build the model it names, write f5.graph.json
  surgery plan f5.surg             what would be adapted, and what is protected
  surgery lock f5.surg             accept that plan; commit f5.surg.lock
  surgery train f5.surg --task my_project.tasks:speech --out runs/f5

exit codes: 0 fine, 1 errors, 2 the plan differs from the lock (`plan`)
"""


class _Parser(argparse.ArgumentParser):
    """Exits with 1 on a wrong command line, not with argparse's 2, by which `plan` says that there are changes."""

    def error(self, message: str) -> NoReturn:
        self.print_usage(sys.stderr)
        self.exit(1, f"{self.prog}: error: {message}\n")


def parser(only: str | None = None) -> argparse.ArgumentParser:
    """The whole command line, or one command of it. Subcommands import torch only when they run."""
    top = _Parser(
        prog="surgery",
        description="Adapt PyTorch models by a reviewed plan.",
        epilog=_EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    top.add_argument("--version", action="version", version=f"surgery {surgery.__version__}")
    subparsers = top.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for command in (only,) if only in COMMANDS else COMMANDS:
        import_module(f"surgery.cli.{command}").add_parser(subparsers)
    return top


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command. Returns its exit code; diagnostics go to standard error."""
    arguments = sys.argv[1:] if argv is None else list(argv)
    args = parser(arguments[0] if arguments else None).parse_args(arguments)
    # PEFT imports it where it is installed, and it warns of kernels that a CPU cannot run and nobody asked for.
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    try:
        code: int = args.run(args)
        sys.stdout.flush()
        return code
    except SurgeryError as error:
        sys.stdout.flush()
        sys.stderr.write(render(error.diagnostics, colour=use_colour(sys.stderr)))
        return 1
    except KeyboardInterrupt:
        sys.stderr.write("interrupted\n")
        return 130
    except BrokenPipeError:
        # The reader (`| head`) went away: nothing more to say, and nothing to say it to.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def use_colour(stream: object) -> bool:
    """Whether to colour: a terminal, and NO_COLOR (https://no-color.org) not set."""
    return bool(getattr(stream, "isatty", lambda: False)()) and not os.environ.get("NO_COLOR")
