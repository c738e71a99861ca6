"""`TrainConfig`: every knob of a run, with its unit, its range and its help text in one place.

The command line's flags are made from these fields, so this module imports no torch.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from surgery.diagnostics import Diagnostic, SurgeryError


@dataclass(frozen=True)
class Range:
    """Which values a field takes, in words and as a test."""

    wants: str
    holds: Callable[[Any], bool]


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _number(value: Any) -> bool:
    return (_whole(value) or isinstance(value, float)) and math.isfinite(value)


def _is_betas(value: Any) -> bool:
    return isinstance(value, tuple) and len(value) == 2 and all(_number(beta) and 0 <= beta < 1 for beta in value)


def _choice(*choices: str) -> Range:
    return Range("one of " + ", ".join(f"`{choice}`" for choice in choices), lambda value: value in choices)


def _maybe(range: Range) -> Range:
    return Range(f"{range.wants}, or none", lambda value: value is None or range.holds(value))


_COUNT = Range("a whole number of at least 1", lambda value: _whole(value) and value >= 1)
_SIZE = Range("a whole number of 0 or more", lambda value: _whole(value) and value >= 0)
_SEED = Range("a whole number from 0 to 2**31 - 1", lambda value: _whole(value) and 0 <= value < 2**31)
_POSITIVE = Range("a number above 0", lambda value: _number(value) and value > 0)
_NOT_NEGATIVE = Range("a number of 0 or more", lambda value: _number(value) and value >= 0)
_BETAS = Range("two numbers from 0 up to, not including, 1", _is_betas)
_FLAG = Range("true or false", lambda value: isinstance(value, bool))
_PATH = Range("a path", lambda value: isinstance(value, str | Path) and str(value) != "")


def _about(help: str, range: Range, *, exact: bool = True) -> dict[str, Any]:
    """A field's help and range, and whether a resumed run must keep its value (`exact`)."""
    return {"help": help, "range": range, "exact": exact}


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """How to train. Raises SurgeryError (E0515, one diagnostic per wrong field) when it is made.

    A step is one update by the optimiser, of `batch_size * gradient_accumulation` samples on every process.
    Each field's help, unit and range is in its metadata and in `surgery train --help`.
    """

    out: str | Path = field(metadata=_about("folder of the run: plan, adapters, states, logs", _PATH, exact=False))
    steps: int | None = field(
        default=None, metadata=_about("length of the run, in optimiser steps (or give the epochs)", _maybe(_COUNT))
    )
    epochs: int | None = field(
        default=None, metadata=_about("length of the run, in passes over the data", _maybe(_COUNT))
    )
    batch_size: int = field(default=8, metadata=_about("samples in one forward pass, on each process", _COUNT))
    gradient_accumulation: int = field(default=1, metadata=_about("forward passes for one optimiser step", _COUNT))
    learning_rate: float = field(default=1e-4, metadata=_about("peak learning rate of AdamW", _POSITIVE))
    weight_decay: float = field(default=0.0, metadata=_about("decoupled weight decay of AdamW", _NOT_NEGATIVE))
    betas: tuple[float, float] = field(
        default=(0.9, 0.999), metadata=_about("decay rates of AdamW's averages of gradient and square", _BETAS)
    )
    warmup_steps: int = field(default=0, metadata=_about("steps of linear warm-up to the peak learning rate", _SIZE))
    schedule: str = field(
        default="constant", metadata=_about("learning rate after the warm-up", _choice("constant", "linear", "cosine"))
    )
    max_grad_norm: float | None = field(
        default=1.0, metadata=_about("clip the gradient of a step to this L2 norm", _maybe(_POSITIVE))
    )
    mixed_precision: str = field(
        default="no", metadata=_about("type that forward passes are autocast to", _choice("no", "bf16", "fp16"))
    )
    seed: int = field(default=0, metadata=_about("seed of new adapter weights, data order and dropout", _SEED))
    num_workers: int = field(
        default=0, metadata=_about("processes that load data; with 0 the training process does", _SIZE, exact=False)
    )
    save_every: int | None = field(
        default=None, metadata=_about("steps between saves; the last step is always saved", _maybe(_COUNT), exact=False)
    )
    evaluate_every: int | None = field(
        default=None,
        metadata=_about("steps between evaluations; the last step is always evaluated", _maybe(_COUNT), exact=False),
    )
    log_every: int = field(default=10, metadata=_about("steps between log entries", _COUNT, exact=False))
    keep_last: int | None = field(
        default=2, metadata=_about("states to keep for resuming; adapters are all kept", _maybe(_COUNT), exact=False)
    )
    tensorboard: bool = field(default=True, metadata=_about("write TensorBoard logs to OUT/logs", _FLAG, exact=False))
    progress: bool | None = field(
        default=None,
        metadata=_about("show a progress bar; by default only on a terminal", _maybe(_FLAG), exact=False),
    )
    resume: str | Path | None = field(
        default=None,
        metadata=_about("go on from the `latest` save in OUT, or from a state folder", _maybe(_PATH), exact=False),
    )

    def __post_init__(self) -> None:
        problems = [
            Diagnostic(
                "E0515",
                f"`{knob.name}` cannot be {getattr(self, knob.name)!r}",
                helps=(f"give {knob.metadata['range'].wants}: {knob.metadata['help']}",),
            )
            for knob in fields(self)
            if not knob.metadata["range"].holds(getattr(self, knob.name))
        ]
        if (self.steps is None) == (self.epochs is None):
            given = "neither is" if self.steps is None else "both are"
            help = "say how long to train with one of them: `--steps 1000`"
            problems.append(Diagnostic("E0515", f"of `steps` and `epochs`, {given} given", helps=(help,)))
        if problems:
            raise SurgeryError(problems)

    def to_json(self) -> dict[str, Any]:
        """The fields as plain JSON values."""
        return {
            name: str(value) if isinstance(value, Path) else list(value) if isinstance(value, tuple) else value
            for name, value in asdict(self).items()
        }

    def changes(self, recorded: Mapping[str, Any]) -> list[str]:
        """What a resumed run may not change but does, each as `name: was -> is`. `recorded` is a `to_json`."""
        now = self.to_json()
        free = {knob.name for knob in fields(self) if not knob.metadata["exact"]}
        if self.schedule == recorded.get("schedule") == "constant":
            free |= {"steps", "epochs"}  # a constant rate does not depend on the run's length
        return [
            f"{name}: {recorded.get(name)} -> {value}"
            for name, value in now.items()
            if name not in free and recorded.get(name) != value
        ]
