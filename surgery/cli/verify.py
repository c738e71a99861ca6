"""`surgery verify F.surg`: apply the plan to the real model and check what it promises."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from surgery.cli.capture import WEIGHTS_HELP
from surgery.cli.plan import add_spec_arguments, planned_from, show_diagnostics
from surgery.diagnostics import render

_EXAMPLE = """\
example:
  surgery verify f5.surg --weights f5_base.safetensors

checks, on the real model, and puts everything back bit for bit:
  adapted   modules, their sizes and what requires gradients are exactly the planned ones
  memory    bytes that the adapters add, against the plan; buffers that hold no parameters, by name
  identity  fresh adapters leave every output as it was, bit for bit where the method promises it
  gradient  one backward run of the example call reaches every adapter
  step      one step of AdamW moves every adapter, and gives every trained tensor a gradient
  merged    merged into the weights, adapters compute what they compute beside them, layer by layer and as a whole

Layers of the base model that are all zeros and frozen keep gradients away: that is reported as W0906, with their
names, and is no error. Adapters that cannot be merged are named with the reason, which is no error either.

exit codes: 0 verified, 1 errors
"""


def add_parser(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "verify",
        help="apply the plan to the real model: exact set, identity, gradients, a step, merging",
        description="Build the spec's model, apply the plan, and check what it promises by running the example call.",
        epilog=_EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_spec_arguments(parser)
    parser.add_argument("--weights", metavar="FILE", type=Path, action="append", help=WEIGHTS_HELP)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print what was verified. 0, or 1 where the plan has errors; a broken promise is raised."""
    spec, _, planned = planned_from(args)
    if not planned.plan.applyable:
        show_diagnostics(planned)
        return 1
    _progress("building the model")
    from surgery.capturing.build import allow_local_modules, build_model, example_inputs
    from surgery.cli.main import use_colour
    from surgery.inject import apply
    from surgery.planning.words import counted
    from surgery.verifying import verify

    allow_local_modules()
    model = build_model(spec, weights=args.weights)
    inputs = example_inputs(spec)
    _progress(f"adapting {counted(len(planned.plan.sites), 'module')}")
    adapted = apply(model, planned.plan)
    _progress("running the example call")
    found = verify(adapted, planned.plan, inputs)
    print(found)
    sys.stdout.flush()
    if found.diagnostics:
        sys.stderr.write(render(found.diagnostics, colour=use_colour(sys.stderr)))
    return 0


def _progress(text: str) -> None:
    print(f"{text} ...", file=sys.stderr, flush=True)
