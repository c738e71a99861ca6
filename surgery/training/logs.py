"""What a run reports while it goes: TensorBoard scalars and a progress bar."""

from __future__ import annotations

import resource
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from surgery.diagnostics import Diagnostic, SurgeryError
from surgery.training.config import TrainConfig

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter


class Logs:
    """Writes to OUT/logs and to standard error; silent on all processes but the main one."""

    def __init__(self, config: TrainConfig, *, start: int, steps: int, is_main: bool) -> None:
        from tqdm import tqdm

        shown = sys.stderr.isatty() if config.progress is None else config.progress
        # Entries that a killed run wrote after its last save are hidden, or they would show twice.
        self._writer = (
            _writer(Path(config.out) / "logs", purge_step=start + 1) if config.tensorboard and is_main else None
        )
        self._bar = tqdm(
            total=steps, initial=start, unit="step", desc="train", file=sys.stderr, disable=not (shown and is_main)
        )

    def advance(self, loss: float) -> None:
        """One step is done."""
        self._bar.set_postfix(loss=f"{loss:.4f}", refresh=False)
        self._bar.update()

    def write(self, step: int, scalars: Mapping[str, float]) -> None:
        """Add these scalars at `step`, counted from 1."""
        if self._writer:
            for name, value in scalars.items():
                self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        self._bar.close()
        if self._writer:
            self._writer.close()


def _writer(folder: Path, purge_step: int) -> SummaryWriter:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise SurgeryError(
            Diagnostic(
                "E0515",
                "TensorBoard is not installed",
                helps=("install it (`pip install tensorboard`), or train with `--no-tensorboard`",),
            )
        ) from None
    return SummaryWriter(str(folder), purge_step=purge_step)


def peak_memory() -> float:
    """The most memory in use so far, in MiB: of the GPU's tensors where there is one, else of the process."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 2**20
    unit = 1 if sys.platform == "darwin" else 2**10  # getrusage(2): bytes on macOS, KiB on Linux
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20
