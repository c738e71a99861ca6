"""The folder of a run, and saves that are complete or not there at all.

    OUT/plan.json          the plan that is trained
    OUT/adapter_<step>/    plain PEFT directories; all are kept
    OUT/state_<step>/      what resuming needs besides; the last `keep_last` are kept
    OUT/logs/              TensorBoard

A save is made in hidden folders, flushed to the disk, and renamed: the adapter first, the state last. A state
folder that is there is therefore complete, and so is its adapter.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError

from surgery.diagnostics import Diagnostic, SurgeryError

_SAVING, _DELETING = ".saving-", ".deleting-"


@dataclass(frozen=True)
class RunDirectory:
    """The folder at `path`; it need not exist yet."""

    path: Path

    @property
    def plan_file(self) -> Path:
        return self.path / "plan.json"

    def adapter(self, step: int) -> Path:
        return self.path / f"adapter_{step}"

    def state(self, step: int) -> Path:
        return self.path / f"state_{step}"

    def states(self) -> list[int]:
        """The steps of the complete saves, ascending."""
        return self._steps("state")

    @property
    def holds_run(self) -> bool:
        return self.plan_file.exists() or bool(self.states() or self._steps("adapter"))

    def save(self, step: int, write_adapter: Callable[[Path], None], write_state: Callable[[Path], None]) -> None:
        """Make a complete save of `step`, or none. Raises SurgeryError (E0514) when the disk refuses."""
        try:
            for final, write in ((self.adapter(step), write_adapter), (self.state(step), write_state)):
                temporary = self.path / f"{_SAVING}{final.name}"
                shutil.rmtree(temporary, ignore_errors=True)
                temporary.mkdir(parents=True)
                write(temporary)
                _flush(temporary)
            for final in (self.adapter(step), self.state(step)):
                (self.path / f"{_SAVING}{final.name}").rename(final)
                _flush_one(self.path)
        except (OSError, SafetensorError) as error:  # safetensors has its own for a full disk
            raise _not_written(self.path, error) from None

    def clean(self) -> None:
        """Remove what a killed run left behind: unfinished saves, and adapters later than the last state."""
        for left in (*self.path.glob(f"{_SAVING}*"), *self.path.glob(f"{_DELETING}*")):
            shutil.rmtree(left)
        last = max(self.states(), default=0)
        for step in self._steps("adapter"):
            if step > last:
                shutil.rmtree(self.adapter(step))

    def prune(self, keep: int) -> None:
        """Delete all states but the last `keep`. A folder loses its name first, so none is ever seen in part."""
        for step in self.states()[:-keep]:
            doomed = self.path / f"{_DELETING}state_{step}"
            self.state(step).rename(doomed)
            shutil.rmtree(doomed)

    def _steps(self, kind: str) -> list[int]:
        names = (p.name for p in self.path.iterdir()) if self.path.is_dir() else ()
        return sorted(int(m[1]) for name in names if (m := re.fullmatch(rf"{kind}_(\d+)", name)))


def _flush(folder: Path) -> None:
    for path in folder.rglob("*"):
        _flush_one(path)
    _flush_one(folder)


def _flush_one(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _not_written(path: Path, error: Exception) -> SurgeryError:
    return SurgeryError(
        Diagnostic(
            "E0514",
            f"cannot save the run: {getattr(error, 'strerror', None) or error}",
            place=str(path),
            helps=("make room or permissions there, then go on from the last complete save with `--resume`",),
        )
    )
