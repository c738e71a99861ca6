"""What a user brings to a training run: data, a loss, and optionally an evaluation.

import torch

class Regression:
    def __init__(self):
        x = torch.randn(256, 8)
        self.samples = [{"x": row, "y": row.sum(-1, keepdim=True)} for row in x]

    def train_dataset(self):                    # map-style: len(dataset), dataset[index]
        return self.samples

    def loss(self, model, batch):               # a mean over the batch's samples
        return torch.nn.functional.mse_loss(model(batch["x"]), batch["y"])

    def evaluate(self, model):                  # optional
        return {"loss": float(self.loss(model, torch.utils.data.default_collate(self.samples)))}

def regression():                               # surgery train F.surg --task my_project.tasks:regression
    return Regression()
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, runtime_checkable

from surgery.diagnostics import Diagnostic, Source, Span, SurgeryError
from surgery.language.tree import Reference

if TYPE_CHECKING:
    from torch import Tensor, nn

    Loss: TypeAlias = "Tensor | Mapping[str, Tensor]"


@runtime_checkable
class Task(Protocol):
    """Data and loss. May also have `collate` (see `Collates`) and `evaluate` (see `Evaluates`)."""

    def train_dataset(self) -> Any:
        """A map-style dataset: `len(dataset)` samples, each read by `dataset[index]`, in any order.

        Random augmentation may use Python's, numpy's or torch's global generators: they are seeded per batch.
        """
        ...

    def loss(self, model: nn.Module, batch: Any) -> Loss:
        """The mean loss over the batch's samples, as a scalar tensor; or scalars by name, one of them "loss".

        Call the model by `model(...)`, with tensors on the device of the batch: it is wrapped for mixed precision
        and for several processes. Only "loss" is differentiated; the other scalars are logged.
        """
        ...


@runtime_checkable
class Collates(Protocol):
    """A task that joins samples into a batch itself. Default: `torch.utils.data.default_collate`."""

    def collate(self, samples: list[Any]) -> Any:
        """One batch of these samples; tensors inside lists and dicts are moved to the model's device."""
        ...


@runtime_checkable
class Evaluates(Protocol):
    """A task that measures a model."""

    def evaluate(self, model: nn.Module) -> Mapping[str, float]:
        """Figures by name. Runs on the main process, in evaluation mode, without gradients; may draw randomly."""
        ...


def load_task(name: str) -> Task:
    """The task that the factory `pkg.mod:factory`, called without arguments, returns.

    Raises SurgeryError: E0507 when the name cannot be imported, E0515 when what it gives is no task.
    """
    from surgery.capturing.build import resolve

    module, colon, attribute = name.partition(":")
    span = Span(Source("--task", name), 0, len(name))
    if not (colon and module and attribute):
        help = "name a function of an installed package or of a module in the current folder: `package.module:factory`"
        raise SurgeryError(
            Diagnostic("E0507", "the task is not named as `package.module:factory`", span, helps=(help,))
        )
    factory = resolve(Reference(module, attribute, span))
    if not callable(factory):
        raise _no_task(span, f"is {_a(factory)}, which cannot be called")
    task = factory()
    missing = [method for method in ("train_dataset", "loss") if not callable(getattr(task, method, None))]
    if missing:
        raise _no_task(span, f"returned {_a(task)} without {' and '.join(f'`{m}`' for m in missing)}")
    assert isinstance(task, Task)
    return task


def _a(thing: object) -> str:
    return f"an object of class `{type(thing).__name__}`"


def _no_task(span: Span, reason: str) -> SurgeryError:
    help = "return an object with `train_dataset()` and `loss(model, batch)`; `surgery train --help` shows one"
    return SurgeryError(Diagnostic("E0515", f"`{span.text}` {reason}", span, helps=(help,)))


def collate_of(task: Task) -> Callable[[list[Any]], Any]:
    """How the task joins samples into a batch."""
    from torch.utils.data import default_collate

    return task.collate if isinstance(task, Collates) else default_collate
