"""`train`: from a model, a plan and a task to adapters on disk."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import accelerate
import numpy
import torch
from accelerate.state import AcceleratorState
from accelerate.utils import GradientAccumulationPlugin
from peft import PeftMixedModel, PeftModel
from torch import nn

from surgery.capturing.quantised import without_repacking
from surgery.diagnostics import Diagnostic, Diagnostics, SurgeryError
from surgery.files import replace_file
from surgery.inject import apply, base_model, load_adapters
from surgery.inject.fit import refusals
from surgery.inject.quantised import repacked
from surgery.inject.state import Adapted
from surgery.planning import Plan
from surgery.training.config import TrainConfig
from surgery.training.data import DataOrder
from surgery.training.gradient_checkpointing import checkpointable, gradient_checkpointing
from surgery.training.logs import Logs
from surgery.training.rank_allocation import check_steps, rank_allocation
from surgery.training.resume import Save, find_start
from surgery.training.rng import write_rng
from surgery.training.run_directory import RunDirectory
from surgery.training.session import Session
from surgery.training.state import restore_optimizer, unreadable
from surgery.training.task import Task
from surgery.training.trainable import trainable_parameters


@dataclass(frozen=True)
class TrainResult:
    """What a run came to. Of a resumed run, `losses` and `metrics` are of the part since it was resumed.

    `losses` maps logged steps (counted from 1) to the mean loss since the entry before; `metrics` maps evaluated
    steps to the task's figures. `adapter` is the last save as PEFT directory, `model` the adapted model,
    `seconds` the wall time of this part.
    """

    step: int
    losses: dict[int, float]
    metrics: dict[int, dict[str, float]]
    adapter: Path
    model: nn.Module
    seconds: float

    @property
    def summary(self) -> str:
        """One line for a person."""
        loss = [f"loss {list(self.losses.values())[-1]:.4g}"] if self.losses else []
        last = list(self.metrics.values())[-1] if self.metrics else {}
        figures = [f"{name} {value:.4g}" for name, value in last.items()]
        return ", ".join([f"step {self.step}", *loss, *figures, f"{self.seconds:.1f} s", f"adapter in {self.adapter}"])


def train(model: nn.Module, plan: Plan, task: Task, config: TrainConfig) -> TrainResult:
    """Train what the plan says, on what the task brings, into the folder `config.out`.

    A model that is not adapted yet is adapted by the plan. Seeds Python's, numpy's and torch's generators.
    Raises SurgeryError before anything is written: E0511 and others of `surgery.apply`, E0509 when an adapted
    model is not as planned, E0512 when a resumed run was another, E0515 when it cannot start. Raises E0516 when
    the loss or gradient stops being finite, E0514 when a save cannot be written; earlier saves stay good.
    """
    began = time.perf_counter()
    Diagnostics([*refusals(plan), *repacked(model)]).raise_errors()
    dataset = _dataset(task)
    directory = RunDirectory(Path(config.out))
    with _accelerator(config) as accelerator:
        order = _order(len(dataset), config, accelerator)
        steps = config.steps or (config.epochs or 0) * order.steps_per_epoch
        check_steps(plan, steps)
        save = find_start(directory, plan, config, order, steps)
        adapted = _adapted(model, plan, config.seed + accelerator.process_index, save)
        parameters = trainable_parameters(adapted, plan)
        blocks = checkpointable(base_model(adapted), plan.checkpointed)
        if accelerator.is_main_process:
            _open(directory, plan)
        accelerator.wait_for_everyone()
        done = save.state.record.step if save else 0
        logs = Logs(config, start=done, steps=steps, is_main=accelerator.is_main_process)
        with (
            closing(logs),
            gradient_checkpointing(list(blocks.values())),
            without_repacking(adapted),
            _prepared(accelerator, adapted, parameters, config) as (wrapped, optimizer),
        ):
            session = Session(
                accelerator=accelerator,
                model=wrapped,
                adapted=adapted,
                parameters=parameters,
                optimizer=optimizer,
                plan=plan,
                task=task,
                dataset=dataset,
                config=config,
                directory=directory,
                order=order,
                steps=steps,
                logs=logs,
                ranks=rank_allocation(adapted, plan),
            )
            if save:
                _restore(save, session)
                session.evaluate_if_due(done)  # the run may have been killed between saving and evaluating
            session.run(done)
    seconds = time.perf_counter() - began
    return TrainResult(steps, session.losses, session.metrics, directory.adapter(steps), adapted, seconds)


def _dataset(task: Task) -> Any:
    dataset = task.train_dataset()
    if not (hasattr(dataset, "__len__") and hasattr(dataset, "__getitem__")):
        raise _cannot_start(
            f"`train_dataset()` gave a {type(dataset).__name__}, which has no length or no items by index",
            "return a list or a map-style torch Dataset (`__len__` and `__getitem__`)",
        )
    if len(dataset) == 0:
        raise _cannot_start("`train_dataset()` is empty", "check what the task reads its samples from")
    return dataset


@contextmanager
def _accelerator(config: TrainConfig) -> Iterator[accelerate.Accelerator]:
    """An accelerator of this precision. One that this process has in use already is shared, or refused."""
    is_first = not AcceleratorState._shared_state
    try:
        accelerator = accelerate.Accelerator(
            mixed_precision=config.mixed_precision,
            # The session accumulates by itself, weighing a partial last batch right: never divide here.
            gradient_accumulation_plugin=GradientAccumulationPlugin(num_steps=1),
        )
        if config.mixed_precision == "fp16" and accelerator.device.type == "cpu":
            raise ValueError("fp16 mixed precision needs a GPU")
    except ValueError as error:
        if is_first:
            AcceleratorState._reset_state()
        raise _cannot_start(str(error), "use `--mixed-precision bf16` or `no`") from None
    try:
        yield accelerator
    finally:
        accelerator.free_memory()
        if is_first:
            # Else a second run in this process could not choose another precision.
            AcceleratorState._reset_state()


def _order(samples: int, config: TrainConfig, accelerator: accelerate.Accelerator) -> DataOrder:
    if samples < accelerator.num_processes:
        raise _cannot_start(
            f"{samples} samples do not suffice for {accelerator.num_processes} processes", "train on fewer processes"
        )
    return DataOrder(
        samples=samples,
        batch_size=config.batch_size,
        accumulation=config.gradient_accumulation,
        seed=config.seed,
        processes=accelerator.num_processes,
        process=accelerator.process_index,
    )


def _adapted(model: nn.Module, plan: Plan, seed: int, save: Save | None) -> Adapted:
    """The model with the plan's adapters: as they are, fresh ones made from `seed`, or those of a save."""
    checkpointable(_users_model(model), plan.checkpointed)  # before the model is changed
    random.seed(seed)
    numpy.random.seed(seed)
    torch.manual_seed(seed)
    adapted = model if isinstance(model, PeftModel | PeftMixedModel) else apply(model, plan)
    if save:
        load_adapters(adapted, plan, save.adapter)
    return adapted


def _users_model(model: nn.Module) -> nn.Module:
    """The model that the plan's paths start from, which PEFT's wrapping may hide."""
    return base_model(model) if isinstance(model, PeftModel | PeftMixedModel) else model


def _open(directory: RunDirectory, plan: Plan) -> None:
    """Make the folder a run's: its plan in it, and nothing that a killed process left half-done."""
    try:
        directory.path.mkdir(parents=True, exist_ok=True)
        directory.clean()
    except OSError as error:
        raise SurgeryError(
            Diagnostic(
                "E0514",
                f"cannot use the folder of the run: {error.strerror or error}",
                place=str(directory.path),
                helps=("give a folder that you may write to: `--out`",),
            )
        ) from None
    if not directory.plan_file.exists():
        replace_file(directory.plan_file, plan.model_dump_json(indent=1) + "\n")


@contextmanager
def _prepared(
    accelerator: accelerate.Accelerator,
    model: nn.Module,
    parameters: Mapping[str, nn.Parameter],
    config: TrainConfig,
) -> Iterator[tuple[nn.Module, Any]]:
    """The model and its optimiser, ready for this device, precision and number of processes; undone at the end."""
    optimizer = torch.optim.AdamW(
        list(parameters.values()), lr=config.learning_rate, betas=config.betas, weight_decay=config.weight_decay
    )
    try:
        yield accelerator.prepare(model, optimizer)
    finally:
        # accelerate replaces the forward of the instance by one under autocast.
        for name in ("forward", "_original_forward"):
            model.__dict__.pop(name, None)


def _restore(save: Save, session: Session) -> None:
    """Put optimiser, loss scaler, ranks and generators where the save found them. Raises SurgeryError (E0515)."""
    try:
        restore_optimizer(session.optimizer.optimizer, session.parameters, save.state)
        if session.accelerator.scaler and save.state.record.scaler:
            session.accelerator.scaler.load_state_dict(save.state.record.scaler)
        if session.ranks:
            session.ranks.load_state(save.state.section("ranks"))
        write_rng(save.state.rng(session.accelerator.process_index))
    except (KeyError, IndexError, ValueError, TypeError, RuntimeError) as error:
        raise unreadable(save.folder, error) from error


def _cannot_start(message: str, help: str) -> SurgeryError:
    return SurgeryError(Diagnostic("E0515", message, helps=(help,)))
