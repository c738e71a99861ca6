"""`surgery lock`: accept the plan of a spec."""

from __future__ import annotations

import argparse
from typing import Any

from surgery.cli.plan import add_spec_arguments, planned_from, show_diagnostics


def add_parser(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "lock",
        help="accept the plan: write it to F.surg.lock",
        description="Write the plan of a spec to its lock file, which `surgery plan` compares with from then on.",
        epilog="example: surgery lock f5.surg && git add f5.surg.lock",
    )
    add_spec_arguments(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Write the lock, whatever was there before. 1, and no lock, if the plan has errors."""
    from surgery.planning.lock import write_lock
    from surgery.planning.words import counted

    spec, _, planned = planned_from(args)
    if planned.plan.applyable:
        write_lock(planned.plan, spec.lock_path)
        print(f"{spec.lock_path}: {counted(len(planned.plan.sites), 'site')} locked")
    # The lock just written counts the modules that W0901 says nothing counts.
    show_diagnostics(planned, but="W0901" if planned.plan.applyable else "")
    return 0 if planned.plan.applyable else 1
