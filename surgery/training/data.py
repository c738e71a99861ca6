"""The order of the data as a function of seed, epoch and step, so that a run can start at any step at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset

from surgery.training.rng import derived_seed, seeded


@dataclass(frozen=True)
class MicroBatch:
    """The samples of one forward pass on one process.

    `weight` is its share in the step's gradient, so that accumulated means equal the mean over all samples
    of the step; `seed` that of whatever is drawn while its samples are read and collated.
    """

    step: int
    indices: tuple[int, ...]
    weight: float
    seed: int
    is_last: bool


@dataclass(frozen=True)
class DataOrder:
    """Which samples each step reads, shuffled anew every epoch.

    An epoch's last step takes what is left: fewer forward passes, and a smaller last batch. Only samples that
    do not suffice to give each process one are left out.
    """

    samples: int
    batch_size: int
    accumulation: int
    seed: int
    processes: int = 1
    process: int = 0

    @property
    def batches_per_epoch(self) -> int:
        """Forward passes of an epoch, all processes counted as one."""
        full, rest = divmod(self.samples, self.batch_size * self.processes)
        return full + (rest >= self.processes)

    @property
    def steps_per_epoch(self) -> int:
        return -(-self.batches_per_epoch // self.accumulation)

    def permutation(self, epoch: int) -> torch.Tensor:
        """int64[samples]: the order of the samples in `epoch`."""
        generator = torch.Generator().manual_seed(derived_seed(self.seed, "epoch", epoch))
        return torch.randperm(self.samples, generator=generator)

    def samples_seen(self, step: int) -> int:
        """Samples that all processes have read when `step` steps are done."""
        epochs, steps = divmod(step, self.steps_per_epoch)
        size = self.batch_size * self.processes
        full, rest = divmod(self.samples, size)
        per_epoch = full * size + (rest if rest >= self.processes else 0)
        return epochs * per_epoch + min(per_epoch, steps * self.accumulation * size)

    def batches(self, start: int, stop: int) -> Iterator[MicroBatch]:
        """This process's batches of the steps `start` up to, not including, `stop`."""
        order, size = torch.empty(0), self.batch_size * self.processes
        for step in range(start, stop):
            epoch, step_of_epoch = divmod(step, self.steps_per_epoch)
            if step == start or step_of_epoch == 0:
                order = self.permutation(epoch)
            first = step_of_epoch * self.accumulation
            last = min(first + self.accumulation, self.batches_per_epoch)
            total = len(order[first * size : last * size])
            for number in range(first, last):
                mine = order[number * size : (number + 1) * size][self.process :: self.processes]
                yield MicroBatch(
                    step=step,
                    indices=tuple(mine.tolist()),
                    # Gradients are averaged over the processes: hence the factor.
                    weight=len(mine) * self.processes / total,
                    seed=derived_seed(self.seed, "batch", epoch, number, self.process),
                    is_last=number == last - 1,
                )


@dataclass(frozen=True)
class _Batches(Dataset[Any]):
    """Reads and collates a whole batch under the batch's own seed, whichever process does it."""

    dataset: Any
    collate: Callable[[list[Any]], Any]

    def __getitems__(self, batch: MicroBatch) -> tuple[MicroBatch, Any]:
        with seeded(batch.seed):
            return batch, self.collate([self.dataset[index] for index in batch.indices])


@dataclass(frozen=True)
class _Steps:
    """The batch sampler of the steps that are still to be done."""

    order: DataOrder
    start: int
    stop: int

    def __iter__(self) -> Iterator[MicroBatch]:
        return self.order.batches(self.start, self.stop)


def make_loader(
    dataset: Sequence[Any] | Dataset[Any],
    collate: Callable[[list[Any]], Any],
    order: DataOrder,
    *,
    start: int,
    stop: int,
    num_workers: int,
) -> DataLoader[Any]:
    """Loads (MicroBatch, collated batch) pairs for the steps `start` up to `stop`, in order, over all epochs.

    Augmentation and masking are seeded per batch: neither the number of workers nor where a run was
    resumed changes what is drawn, and drawing leaves the generators of the training process alone.
    """
    return DataLoader(
        _Batches(dataset, collate),
        batch_sampler=_Steps(order, start, stop),  # type: ignore[arg-type]
        collate_fn=_unchanged,
        num_workers=num_workers,
        pin_memory=torch.cuda.is_available(),
        generator=torch.Generator(),  # else the loader draws its workers' seed from the training generator
    )


def _unchanged(batch: Any) -> Any:
    return batch
