"""`surgery import F.surg ADAPTER`: an adapter from elsewhere as the PEFT directory of a plan."""  # noqa: N999

# The file is named after its command, like all others.

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from surgery.cli.plan import add_spec_arguments, planned_from, show_diagnostics

if TYPE_CHECKING:
    from surgery.inject.state import Adapted
    from surgery.language import LoadedSpec
    from surgery.planning import Plan

_EXAMPLE = """\
examples:
  surgery import flux.surg pytorch_lora_weights.safetensors --out imported
  surgery import flux.surg kohya.safetensors --out imported --only lora_unet
  surgery import f5.surg last_step.safetensors --out imported --scale plan

How the file spells its keys is inferred from the plan's paths. Every tensor of the file has to be one of the plan's and
every one of the plan's has to be in the file, in its shape: else all differences are listed, and nothing is written.
"""


def add_parser(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "import",
        help="fit an adapter from elsewhere to a plan, and write it as a PEFT directory",
        description="Read an adapter that PEFT, diffusers, kohya, LyCORIS, ComfyUI's users or VoxCPM wrote, and write "
        "it as the plan's.",
        epilog=_EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_spec_arguments(parser)
    parser.add_argument(
        "adapter",
        metavar="ADAPTER",
        type=Path,
        help="a safetensors file, the folder of one, or that of all adapters of the plan",
    )
    parser.add_argument(
        "--out", metavar="DIR", type=Path, required=True, help="folder to write; an older export is replaced"
    )
    parser.add_argument("--only", metavar="PREFIX", help="read one component of the file: `transformer`, `lora_unet`")
    parser.add_argument(
        "--scale",
        metavar="SCALE",
        type=_scale,
        default="file",
        help="`file` (default) as the file says it, `plan` as the plan says it, or alpha / r as a number",
    )
    parser.add_argument("--strict", action="store_true", help="refuse a file that is scaled differently from the plan")
    parser.set_defaults(run=run)


def _scale(text: str) -> str | float:
    if text in ("file", "plan"):
        return text
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"`{text}` is neither `file`, `plan` nor a number") from None


def run(args: argparse.Namespace) -> int:
    """Print what was loaded and written. 0, or 1 where the plan has errors; a file that does not fit is raised."""
    spec, _, planned = planned_from(args)
    if not planned.plan.applyable:
        show_diagnostics(planned)
        return 1
    print("building the base model ...", file=sys.stderr, flush=True)
    from surgery.capturing.build import allow_local_modules
    from surgery.exporting import export
    from surgery.inject import load_adapter

    allow_local_modules()
    adapted = _adapted(spec, planned.plan)
    print(
        load_adapter(adapted, planned.plan, args.adapter, only=args.only, scale=args.scale, strict=args.strict),
        flush=True,
    )
    print(export(adapted, planned.plan, args.out, to="peft"))
    return 0


def _adapted(spec: LoadedSpec, plan: Plan) -> Adapted:
    """The spec's model with fresh adapters: without any values, where its code, the plan and PEFT can do without."""
    import torch

    from surgery.capturing.build import build_model, construct
    from surgery.diagnostics import SurgeryError
    from surgery.inject import apply
    from surgery.methods import METHODS

    if not any(METHODS[site.method].reads_weights(site.settings) for site in plan.sites):
        try:
            with torch.device("meta"):
                model = construct(spec)
            return apply(model, plan)
        except SurgeryError:
            pass  # what is wrong with more than the missing values is raised again below
    return apply(build_model(spec), plan)
