import subprocess
import sys

import pytest
from safetensors import SafetensorError

from surgery.diagnostics import SurgeryError
from surgery.training.run_directory import RunDirectory


def writer(text):
    return lambda folder: (folder / "file").write_text(text) and None


def save(directory, step):
    directory.save(step, writer(f"adapter {step}"), writer(f"state {step}"))


def test_a_save_is_an_adapter_and_a_state(tmp_path):
    directory = RunDirectory(tmp_path)
    assert not directory.holds_run
    save(directory, 5)
    assert (directory.adapter(5) / "file").read_text() == "adapter 5"
    assert (directory.state(5) / "file").read_text() == "state 5"
    assert directory.states() == [5]
    assert directory.holds_run
    assert sorted(path.name for path in tmp_path.iterdir()) == ["adapter_5", "state_5"]


def test_steps_are_ordered_as_numbers(tmp_path):
    directory = RunDirectory(tmp_path)
    for step in (10, 9, 100):
        save(directory, step)
    assert directory.states() == [9, 10, 100]


def test_pruning_keeps_the_last_states_and_all_adapters(tmp_path):
    directory = RunDirectory(tmp_path)
    for step in (1, 2, 3):
        save(directory, step)
    directory.prune(2)
    assert directory.states() == [2, 3]
    assert all(directory.adapter(step).is_dir() for step in (1, 2, 3))


# A save runs these calls in this order; the process is killed instead of making the Nth one.
DYING = """
import os, signal, sys
from pathlib import Path
from surgery.training import run_directory
from surgery.training.run_directory import RunDirectory

left = int(sys.argv[2])
def dying(call):
    def maybe(*args, **kwargs):
        global left
        left -= 1
        if left < 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return call(*args, **kwargs)
    return maybe
os.fsync, os.unlink, os.rmdir = map(dying, (os.fsync, os.unlink, os.rmdir))
Path.rename, Path.mkdir = map(dying, (Path.rename, Path.mkdir))
directory = RunDirectory(Path(sys.argv[1]))
directory.save(2, lambda f: (f / "file").write_text("adapter 2"), lambda f: (f / "file").write_text("state 2"))
directory.prune(1)
"""


def test_killed_at_any_call_there_is_a_complete_save(tmp_path):
    outcomes = set()
    for calls in range(20):
        directory = RunDirectory(tmp_path / str(calls))
        directory.path.mkdir()
        save(directory, 1)
        ended = subprocess.run([sys.executable, "-c", DYING, str(directory.path), str(calls)], check=False).returncode
        directory.clean()
        last = directory.states()[-1]
        assert (directory.state(last) / "file").read_text() == f"state {last}"
        assert (directory.adapter(last) / "file").read_text() == f"adapter {last}"
        assert not list(directory.path.glob(".*"))
        assert last == 2 or not directory.adapter(2).exists()
        save(directory, last + 1)  # and the run can go on
        outcomes.add((ended, last))
        if ended == 0:
            break
    assert outcomes == {(-9, 1), (-9, 2), (0, 2)}


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), SafetensorError("I/O error")])
def test_a_disk_that_fills_up_leaves_the_last_save(tmp_path, error):
    directory = RunDirectory(tmp_path)
    save(directory, 1)

    def full(folder):
        raise error

    with pytest.raises(SurgeryError) as caught:
        directory.save(2, writer("adapter 2"), full)
    assert (caught.value.diagnostics[0].code, directory.states()) == ("E0514", [1])
    assert not directory.adapter(2).exists()
