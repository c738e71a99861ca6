"""Where a run starts: at step 0, or at a save. Everything is checked here, before anything is written."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from surgery.diagnostics import Diagnostic, SurgeryError
from surgery.planning import Plan, read_plan
from surgery.training.config import TrainConfig
from surgery.training.data import DataOrder
from surgery.training.run_directory import RunDirectory
from surgery.training.same_run import check_plan, check_settings
from surgery.training.state import State, read_state

LATEST = "latest"


@dataclass(frozen=True)
class Save:
    """A complete save: its state with its folder, and the folder of its adapter."""

    state: State
    folder: Path
    adapter: Path


def find_start(directory: RunDirectory, plan: Plan, config: TrainConfig, order: DataOrder, steps: int) -> Save | None:
    """The save to go on from, or None to start at step 0.

    Raises SurgeryError: E0515 when the folder does not fit what is asked, E0512 when the run was another.
    """
    if config.resume is None:
        if directory.holds_run:
            raise _refused(directory.path, "the folder already holds a run", "go on with it by `--resume`", _OTHER)
        return None
    source = _source(directory, config.resume)
    check_plan(read_plan(source.plan_file), plan, str(source.plan_file))
    if config.resume == LATEST and not directory.states():
        return None  # killed before its first save
    step = directory.states()[-1] if config.resume == LATEST else _step(Path(config.resume))
    folder = source.state(step)
    state = read_state(folder)
    check_settings(
        state.record, config, samples=order.samples, processes=order.processes, place=str(folder / "state.json")
    )
    if step > steps:
        raise _refused(folder, f"the run is at step {step} already, past the {steps} asked for", "ask for more steps")
    if not source.adapter(step).is_dir():
        raise _refused(folder, f"its adapter, {source.adapter(step).name}, is gone", "resume from another state")
    return Save(state, folder, source.adapter(step))


_OTHER = "or train into another folder: `--out`"


def _source(directory: RunDirectory, resume: str | Path) -> RunDirectory:
    """The folder of the run to go on with; `resume` may name a state of another one."""
    if resume == LATEST:
        if not directory.plan_file.exists():
            raise _refused(directory.path, "there is no run to resume here", "check `--out`, or leave out `--resume`")
        return directory
    folder = Path(resume)
    source = RunDirectory(folder.parent)
    if not folder.name.startswith("state_") or not folder.is_dir() or not source.plan_file.exists():
        raise _refused(folder, "this is no state of a run", "name a folder such as OUT/state_500, or give `latest`")
    if source.path.resolve() != directory.path.resolve():
        if directory.holds_run:
            raise _refused(directory.path, "the folder already holds another run", _OTHER)
    elif _step(folder) < directory.states()[-1]:
        last = directory.states()[-1]
        raise _refused(folder, f"the folder holds a later save, state_{last}", "go on from `latest`", _OTHER)
    return source


def _step(folder: Path) -> int:
    number = folder.name.removeprefix("state_")
    if not number.isdecimal():
        raise _refused(folder, "this is no state of a run", "name a folder such as OUT/state_500, or give `latest`")
    return int(number)


def _refused(place: Path, message: str, *helps: str) -> SurgeryError:
    return SurgeryError(Diagnostic("E0515", message, place=str(place), helps=helps))
