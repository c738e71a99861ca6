"""The steps of one run: forward passes, updates, logs, evaluations, saves."""

from __future__ import annotations

import math
import time
from collections import defaultdict
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import partial
from numbers import Real
from typing import Any

import accelerate
import torch
from accelerate.utils import gather_object, send_to_device
from torch import nn

from surgery.diagnostics import Diagnostic, SurgeryError
from surgery.inject.directory import write_adapters
from surgery.inject.state import Adapted
from surgery.planning import Plan
from surgery.training.config import TrainConfig
from surgery.training.data import DataOrder, MicroBatch, make_loader
from surgery.training.logs import Logs, peak_memory
from surgery.training.rank_allocation import RankAllocation
from surgery.training.rng import RngState, read_rng, undisturbed
from surgery.training.run_directory import RunDirectory
from surgery.training.schedule import learning_rate
from surgery.training.state import RunRecord, write_state
from surgery.training.task import Evaluates, Task, collate_of
from surgery.training.trainable import trainable_parameters


@dataclass
class Session:
    """A run under way. `model` is prepared by accelerate, `adapted` the same model without its wrapping.

    `steps` is the length of the whole run, `ranks` what AdaLoRA does in a step. `losses` and `metrics` hold what was
    logged, by step counted from 1.
    """

    accelerator: accelerate.Accelerator
    model: nn.Module
    adapted: Adapted
    parameters: Mapping[str, nn.Parameter]
    optimizer: Any
    plan: Plan
    task: Task
    dataset: Any
    config: TrainConfig
    directory: RunDirectory
    order: DataOrder
    steps: int
    logs: Logs
    ranks: RankAllocation | None = None
    losses: dict[int, float] = field(default_factory=dict)
    metrics: dict[int, dict[str, float]] = field(default_factory=dict)
    _window: Window = field(default_factory=lambda: Window())

    def run(self, start: int) -> None:
        """Do the steps from `start` (steps already done) to the end. Raises SurgeryError (E0516) if it must stop."""
        set_train_mode(self.adapted)
        loader = make_loader(
            self.dataset,
            collate_of(self.task),
            self.order,
            start=start,
            stop=self.steps,
            num_workers=self.config.num_workers,
        )
        for part, batch in loader:
            self._accumulate(part, batch)
            if part.is_last:
                self._update(part.step)
                self._report(part.step + 1)

    def _accumulate(self, part: MicroBatch, batch: Any) -> None:
        batch = send_to_device(batch, self.accelerator.device, non_blocking=True)
        # Gradients of several processes are joined once a step.
        with nullcontext() if part.is_last else self.accelerator.no_sync(self.model):
            scalars = self._scalars(batch, part.step + 1)
            self.accelerator.backward(scalars["loss"] * part.weight)
        self._window.add(
            {name: float(value.detach()) * part.weight for name, value in scalars.items()}, len(part.indices)
        )

    def _scalars(self, batch: Any, step: int) -> Mapping[str, torch.Tensor]:
        scalars = _scalars(self.task.loss(self.model, batch), step)
        if self.ranks is None:
            return scalars
        penalty = self.ranks.penalty()
        return {**scalars, "loss": scalars["loss"] + penalty, "rank_penalty": penalty}

    def _update(self, step: int) -> None:
        limit = self.config.max_grad_norm or math.inf  # without a limit the norm is measured only
        norm = float(self.accelerator.clip_grad_norm_(list(self.parameters.values()), limit))
        if not math.isfinite(norm) and self.accelerator.scaler is None:  # a scaler skips such a step itself
            raise _stopped(step + 1, f"the gradient's norm is {norm}")
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(self.config, step, self.steps)
        self.optimizer.step()
        if self.ranks:
            self.ranks.after(step + 1)
        self.optimizer.zero_grad(set_to_none=True)
        self._window.close_step(norm)

    def _report(self, done: int) -> None:
        self.logs.advance(self._window.last_loss)
        if self._is_due(done, self.config.log_every):
            self._log(done)
        if self._is_due(done, self.config.save_every):
            self.save(done)
        self.evaluate_if_due(done)

    def _is_due(self, done: int, every: int | None) -> bool:
        return done == self.steps or bool(every and done % every == 0)

    def _log(self, done: int) -> None:
        means = self._window.means()
        loss = torch.tensor(means["loss"], device=self.accelerator.device)
        means["loss"] = float(self.accelerator.reduce(loss, "mean"))
        self.losses[done] = means["loss"]
        self.logs.write(
            done,
            {
                **{f"train/{name}": value for name, value in means.items()},
                "train/learning_rate": learning_rate(self.config, done - 1, self.steps),
                "train/gradient_norm": self._window.norm,
                "train/samples_per_second": self._window.rate * self.order.processes,
                "memory/peak_mib": peak_memory(),
            },
        )
        self._window = Window()

    def evaluate_if_due(self, done: int) -> None:
        """Measure the model after `done` steps, if it is time to; the training's random numbers stay as they are."""
        if not (isinstance(self.task, Evaluates) and self._is_due(done, self.config.evaluate_every)):
            return
        if self.accelerator.is_main_process:
            self.adapted.eval()
            with undisturbed(), torch.no_grad(), self.accelerator.autocast():
                self.metrics[done] = _figures(self.task.evaluate(self.adapted), done)
            set_train_mode(self.adapted)
            self.logs.write(done, {f"evaluation/{name}": value for name, value in self.metrics[done].items()})
        self.accelerator.wait_for_everyone()

    def save(self, done: int) -> None:
        """Write a complete save of the model after `done` steps. Raises SurgeryError: E0509, E0514."""
        trainable_parameters(self.adapted, self.plan)
        rng: list[RngState] = gather_object([read_rng()])
        if self.accelerator.is_main_process:
            with undisturbed():
                self.directory.save(
                    done,
                    partial(write_adapters, self.adapted, self.plan),
                    lambda folder: write_state(
                        folder,
                        self._record(done),
                        _plain(self.optimizer),
                        self.parameters,
                        rng,
                        self.ranks.state() if self.ranks else {},
                    ),
                )
            if self.config.keep_last:
                self.directory.prune(self.config.keep_last)
        self.accelerator.wait_for_everyone()

    def _record(self, done: int) -> RunRecord:
        scaler = self.accelerator.scaler
        return RunRecord(
            step=done,
            epoch=done // self.order.steps_per_epoch,
            samples_seen=self.order.samples_seen(done),
            samples=self.order.samples,
            processes=self.order.processes,
            learning_rate=learning_rate(self.config, done - 1, self.steps),
            config=self.config.to_json(),
            spec=self.plan.fingerprints.spec,
            graph=self.plan.fingerprints.graph,
            versions={"torch": torch.__version__, "accelerate": accelerate.__version__},
            scaler=scaler.state_dict() if scaler else {},
        )


class Window:
    """Sums since the last log entry, of this process."""

    def __init__(self) -> None:
        self._sums: dict[str, float] = defaultdict(float)
        self._steps, self._samples = 0, 0
        self._since = time.perf_counter()
        self._step_loss = 0.0
        self.norm = 0.0
        self.last_loss = math.nan

    def add(self, scalars: Mapping[str, float], samples: int) -> None:
        """A forward pass: its scalars, weighted, and how many samples it read."""
        for name, value in scalars.items():
            self._sums[name] += value
        self._step_loss += scalars["loss"]
        self._samples += samples

    def close_step(self, norm: float) -> None:
        self._steps += 1
        self.norm, self.last_loss, self._step_loss = norm, self._step_loss, 0.0

    def means(self) -> dict[str, float]:
        return {name: total / self._steps for name, total in self._sums.items()}

    @property
    def rate(self) -> float:
        """Samples a second."""
        return self._samples / (time.perf_counter() - self._since)


def set_train_mode(model: nn.Module) -> None:
    """Training mode, except that frozen batch norms keep their statistics, which no adapter would carry."""
    model.train()
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and not any(
            p.requires_grad for p in module.parameters()
        ):
            module.eval()


def _figures(metrics: Any, step: int) -> dict[str, float]:
    if not isinstance(metrics, Mapping) or not all(_is_number(value) for value in metrics.values()):
        raise _stopped(
            step,
            f"the task's `evaluate` gave {metrics!r}",
            "return numbers by name, such as `{'accuracy': 0.5}`, then go on with `--resume`",
            note="earlier saves stay good",
        )
    return {name: float(value) for name, value in metrics.items()}


def _is_number(value: Any) -> bool:
    return value.numel() == 1 if isinstance(value, torch.Tensor) else isinstance(value, Real)


def _scalars(loss: Any, step: int) -> Mapping[str, torch.Tensor]:
    scalars = loss if isinstance(loss, Mapping) else {"loss": loss}
    value = scalars.get("loss")
    if not isinstance(value, torch.Tensor) or value.numel() != 1:
        shown = f"a tensor of shape {tuple(value.shape)}" if isinstance(value, torch.Tensor) else repr(value)
        raise _stopped(step, f"the task's loss is {shown}", "return a scalar tensor, or a dict with one named `loss`")
    if not value.requires_grad:
        raise _stopped(
            step,
            "the task's loss depends on no trainable tensor",
            "call the model you are given, in `loss`, without `torch.no_grad` or `detach`; `surgery verify` shows "
            "which adapters a gradient reaches",
        )
    if not torch.isfinite(value):
        raise _stopped(step, f"the loss is {float(value.detach())}")
    for name, other in scalars.items():
        if not _is_number(other):
            raise _stopped(step, f"the task's `{name}` is no number", "return scalars beside `loss`, to be logged")
    return {name: torch.as_tensor(scalar) for name, scalar in scalars.items()}


def _stopped(
    step: int, reason: str, help: str = "", note: str = "nothing of this step was applied or saved"
) -> SurgeryError:
    default = "look at the batch and correct the task, then `--resume`; or start again with a lower learning rate"
    return SurgeryError(
        Diagnostic(
            "E0516",
            f"training stopped at step {step}: {reason}",
            notes=(note,),
            helps=(help or default,),
        )
    )


def _plain(optimizer: Any) -> torch.optim.Optimizer:
    """The optimiser inside accelerate's."""
    return optimizer.optimizer
