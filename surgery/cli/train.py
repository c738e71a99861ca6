"""`surgery train`: plan, apply and train in one go, exactly as reviewed."""

from __future__ import annotations

import argparse
import sys
import typing
from dataclasses import MISSING, Field, fields
from pathlib import Path
from types import NoneType
from typing import Any

from surgery.cli.capture import WEIGHTS_HELP
from surgery.diagnostics import Diagnostic, Diagnostics, SurgeryError, render
from surgery.training.config import TrainConfig

_EXAMPLE = """\
a task is what you bring: data, a loss, and optionally an evaluation. In tasks.py:

  import torch

  class Regression:
      def train_dataset(self):                 # map-style: len(dataset), dataset[index]
          return [{"x": torch.randn(8), "y": torch.randn(1)} for _ in range(256)]

      def loss(self, model, batch):            # the mean over the batch's samples
          return torch.nn.functional.mse_loss(model(batch["x"]), batch["y"])

      def evaluate(self, model):               # optional
          return {"loss": 0.0}

  def regression():
      return Regression()

  surgery train f5.surg --task tasks:regression --out runs/1 --epochs 3 --batch-size 16 --schedule cosine
  surgery train f5.surg --task tasks:regression --out runs/1 --epochs 3 --batch-size 16 --schedule cosine --resume
"""


def add_parser(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "train",
        help="adapt the model by the plan and train it on a task",
        description="Plan, apply and train. Every save is a plain PEFT directory, OUT/adapter_<step>/; a killed run "
        "goes on with --resume, to the same adapter bit for bit.",
        epilog=_EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("spec", metavar="F.surg", help="the spec; it names the model")
    parser.add_argument("--task", required=True, metavar="MOD:FACTORY", help="function that returns the task")
    parser.add_argument("--weights", metavar="FILE", type=Path, action="append", help=WEIGHTS_HELP)
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="override a param of the spec")
    parser.add_argument("--graph", metavar="FILE", help="graph file to plan on; default: the spec's")
    parser.add_argument("--no-lock", action="store_true", help="train even if the plan differs from F.surg.lock")
    settings = parser.add_argument_group("the run")
    for knob in fields(TrainConfig):
        _add_flag(settings, knob)
    parser.set_defaults(run=run)


def _add_flag(group: Any, knob: Field[Any]) -> None:
    """The flag of one field: name, type, help and default come from the field."""
    required = knob.default is MISSING
    options: dict[str, Any] = {"default": None if required else knob.default, "required": required}
    kind = _kind(knob.name)
    if kind is bool:
        options["action"] = argparse.BooleanOptionalAction
    elif kind is tuple:
        options |= {"type": float, "nargs": 2, "metavar": ("B1", "B2")}
    elif knob.name == "resume":
        options |= {"nargs": "?", "const": "latest", "metavar": "STATE"}
    else:
        options |= {"type": _or_none(kind), "metavar": {int: "N", float: "X", str: "TEXT"}[kind]}
    range = knob.metadata["range"]
    shown = "" if required or knob.default is None else f" (default: {_text(knob.default)})"
    choice = f": {range.wants.removeprefix('one of ')}" if range.wants.startswith("one of") else ""
    help = f"{knob.metadata['help']}{choice}{shown}".replace("%", "%%").replace("`", "")
    group.add_argument(f"--{knob.name.replace('_', '-')}", help=help, **options)


def _text(default: Any) -> str:
    if isinstance(default, bool):
        return "yes" if default else "no"
    return " ".join(map(str, default)) if isinstance(default, tuple) else str(default)


def _kind(name: str) -> Any:
    """The type that a field's text is read as: its annotation without `None`."""
    annotation = typing.get_type_hints(TrainConfig)[name]
    if typing.get_origin(annotation) is tuple:
        return tuple
    kinds = [kind for kind in typing.get_args(annotation) or (annotation,) if kind is not NoneType]
    return kinds[0]


def _or_none(kind: Any) -> Any:
    def read(text: str) -> Any:
        return None if text == "none" else kind(text)

    read.__name__ = kind.__name__  # argparse names it when the text is wrong
    return read


def run(args: argparse.Namespace) -> int:
    """Train; the last line printed says what it came to."""
    config = config_of(args)
    spec, graph, plan = _plan(args)
    if not args.weights:
        _show(_random_base(spec, graph))

    from accelerate import PartialState

    from surgery.capturing.build import allow_local_modules, build_model
    from surgery.training import load_task, train

    allow_local_modules()
    task = load_task(args.task)
    model = build_model(spec, weights=args.weights)
    result = train(model, plan, task, config)
    if PartialState().is_main_process:
        print(result.summary)
    return 0


def config_of(args: argparse.Namespace) -> TrainConfig:
    """The settings that the flags give. Raises SurgeryError (E0515) with all that is wrong with them."""
    settings: dict[str, Any] = {knob.name: getattr(args, knob.name) for knob in fields(TrainConfig)}
    if isinstance(settings["betas"], list):
        settings["betas"] = tuple(settings["betas"])
    return TrainConfig(**settings)


def _plan(args: argparse.Namespace) -> tuple[Any, Any, Any]:
    """The spec, its graph and its plan. Raises SurgeryError: E0511 for a plan with errors, E0515 for another lock."""
    from surgery.graph.file import read_graph
    from surgery.inject.fit import refusals
    from surgery.language import load, parse_override
    from surgery.planning import plan as make_plan

    spec = load(args.spec, **dict(parse_override(text) for text in args.set))
    graph = read_graph(args.graph or spec.graph_path)
    plan = make_plan(spec, graph)
    Diagnostics(refusals(plan)).raise_errors()
    if not args.no_lock:
        _check_lock(plan, spec.lock_path)
    return spec, graph, plan


def _random_base(spec: Any, graph: Any) -> list[Diagnostic]:
    """W0909 where most of what the model's code makes is drawn at random, and no weights are given."""
    parameters = [parameter for module in graph.modules.values() for parameter in module.parameters]
    random = sum(parameter.numel for parameter in parameters if parameter.init.value == "random")
    if 2 * random < graph.parameters:
        return []
    return [
        Diagnostic(
            "W0909",
            "the adapters are trained on a base model with random weights",
            spec.tree.model.span if spec.tree.model else None,
            notes=(f"{random:,} of its {graph.parameters:,} parameters are drawn at random by its own code",),
            helps=("give its checkpoint: `--weights base.safetensors`",),
        )
    ]


def _show(diagnostics: list[Diagnostic]) -> None:
    from surgery.cli.main import use_colour

    if diagnostics:
        sys.stderr.write(render(diagnostics, colour=use_colour(sys.stderr)))


def _check_lock(plan: Any, path: Path) -> None:
    from surgery.planning.changes import compare
    from surgery.planning.lock import read_lock
    from surgery.training.same_run import change_lines, shortened

    lock = read_lock(path, plan)
    lines = change_lines(compare(plan, lock)) if lock else []
    if lines:
        raise SurgeryError(
            Diagnostic(
                "E0515",
                "the plan is not the one that was accepted",
                place=str(path),
                notes=shortened(lines),
                helps=("see the change by `surgery plan` and accept it by `surgery lock`, or give `--no-lock`",),
            )
        )
