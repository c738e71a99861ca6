"""`surgery export DIR`: a trained adapter as files that others read."""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from surgery.cli.capture import WEIGHTS_HELP
from surgery.diagnostics import Diagnostic, SurgeryError

if TYPE_CHECKING:
    from torch import nn

    from surgery.language import LoadedSpec
    from surgery.planning import Plan

_EXAMPLE = """\
examples:
  surgery export runs/1 --to peft --out my_adapter                       the last adapter of a run
  surgery export runs/1/adapter_500 --to merged --out merged --weights base.safetensors

The base model is rebuilt from the spec and the adapter loaded into it; what is written is read back and compared with
it, and nothing is left in the folder if it differs.
"""


def add_parser(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "export",
        help="write a trained adapter as a PEFT directory or merged weights",
        description="Export the adapter of a run, proved against the adapted model.",
        epilog=_EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "directory", metavar="DIR", type=Path, help="a run of `surgery train`, or one adapter_<step> of it"
    )
    parser.add_argument("--to", metavar="FORMAT", default="peft", help="peft (default) or merged")
    parser.add_argument(
        "--out", metavar="DIR", type=Path, required=True, help="folder to write; an older export is replaced"
    )
    parser.add_argument(
        "--spec", metavar="F.surg", help="the spec, where it is not at the path that the run's plan has"
    )
    parser.add_argument("--weights", metavar="FILE", type=Path, action="append", help=WEIGHTS_HELP)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print the files and the proofs."""
    plan_file, adapter = saved_adapter(args.directory)

    from surgery.language import load
    from surgery.planning import read_plan

    plan = read_plan(plan_file)
    spec = load(_spec_path(args.spec, plan), **plan.params)
    _progress("building the base model")
    from surgery.capturing.build import allow_local_modules, example_inputs
    from surgery.exporting import export
    from surgery.inject import apply, load_adapters

    allow_local_modules()
    model = _base_model(spec, args.weights, needed=args.to == "merged")
    _progress(f"loading {adapter}")
    adapted = apply(model, plan)
    load_adapters(adapted, plan, adapter)
    _progress("writing and reading back")
    print(export(adapted, plan, args.out, to=args.to, inputs=example_inputs(spec) if spec.tree.inputs else None))
    return 0


def saved_adapter(directory: Path) -> tuple[Path, Path]:
    """The plan and the adapter that a folder means: of a run the last adapter. Raises SurgeryError (E0501)."""
    if (directory / "plan.json").exists():
        steps = {int(m[1]): path for path in directory.iterdir() if (m := re.fullmatch(r"adapter_(\d+)", path.name))}
        if not steps:
            raise SurgeryError(_no_adapter(directory, "the run has saved no adapter yet"))
        return directory / "plan.json", steps[max(steps)]
    plan = directory.parent / "plan.json"
    if not directory.is_dir() or not plan.exists():
        raise SurgeryError(_no_adapter(directory, "this is no run, and no adapter of a run"))
    return plan, directory


def _spec_path(given: str | None, plan: Plan) -> str:
    path = given or plan.spec
    if not Path(path).exists():
        message = f"cannot find the spec of the run: `{path}`"
        raise SurgeryError(Diagnostic("E0501", message, place=path, helps=("say where it is: `--spec F.surg`",)))
    return path


def _base_model(spec: LoadedSpec, weights: list[Path] | None, *, needed: bool) -> nn.Module:
    """The base model. Where its weights are `needed`, none given and those it is built with random: E0513."""
    import torch

    from surgery.capturing.build import build_model

    model = build_model(spec, weights=weights)
    if needed and not weights:
        pairs = zip(model.parameters(), build_model(spec, seed=1).parameters(), strict=True)
        if any(not torch.equal(one, other) for one, other in pairs):
            raise SurgeryError(_random_weights(spec))
    return model


def _random_weights(spec: LoadedSpec) -> Diagnostic:
    return Diagnostic(
        "E0513",
        "the spec builds its model with random weights, and merging into those makes no sense",
        spec.tree.model.span if spec.tree.model else None,
        helps=("give the weights that the adapter was trained on: `--weights base.safetensors`",),
    )


def _no_adapter(directory: Path, why: str) -> Diagnostic:
    help = "give the `--out` folder of `surgery train`, or an `adapter_<step>` folder in it"
    return Diagnostic("E0501", f"cannot read the adapter: {why}", place=str(directory), helps=(help,))


def _progress(text: str) -> None:
    print(f"{text} ...", file=sys.stderr, flush=True)
