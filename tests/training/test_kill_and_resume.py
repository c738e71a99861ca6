"""A run killed five times by SIGKILL, at random forward passes and inside saves, against the same run uninterrupted."""

import os
import random
import shlex
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# Dropout, masking and shuffling are random. An epoch is two steps of 3 forward passes; the last batch is of 2.
SETTINGS = shlex.split(
    "--steps 15 --batch-size 4 --gradient-accumulation 3 --learning-rate 0.01 --warmup-steps 4 --schedule cosine "
    "--save-every 3 --evaluate-every 5 --seed 3 --no-tensorboard"
)


@pytest.fixture
def project(tmp_path):
    """The small project with its graph, in a folder of its own."""
    folder = shutil.copytree(Path(__file__).parent / "project", tmp_path / "project")
    subprocess.run([sys.executable, "-m", "surgery", "capture", "tiny.surg"], cwd=folder, env=environment(), check=True)
    return folder


def environment(**more):
    return {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **more}


def start(project, out, *flags, die=""):
    command = [sys.executable, "-m", "surgery", "train", "tiny.surg", "--task", "dying:unmask", "--out", out]
    return subprocess.Popen(
        [*command, *SETTINGS, *flags],
        cwd=project,
        env=environment(DIE=die),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def adapters(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.glob("adapter_*/**/*.safetensors")}


def left_behind(folder):
    """What the last kill left unfinished: hidden folders, or an adapter whose state is missing."""
    states = {path.name.removeprefix("state_") for path in folder.glob("state_*")}
    hidden = {path.name.rstrip("0123456789") for path in folder.glob(".*")}
    last = max(int(path.name.removeprefix("adapter_")) for path in [*folder.glob("adapter_*"), Path("adapter_0")])
    return hidden | ({"adapter without state"} if last and str(last) not in states else set())


def test_five_kills_change_nothing(project):
    whole = start(project, "whole")  # meanwhile, on the other core
    passes = random.Random(20)
    kills = [
        (f"loss:{passes.randint(9, 14)}", set()),
        ("fsync:4", {".saving-adapter_"}),  # while the adapter is written
        (f"loss:{passes.randint(9, 17)}", set()),
        ("fsync:15", {".saving-state_", "adapter without state"}),  # between the renames of adapter and state
        (f"loss:{passes.randint(1, 8)}", set()),
    ]
    for number, (kill, expected) in enumerate(kills):
        flags = ["--resume", "--num-workers", str(2 * (number % 2))] if number else []
        run = start(project, "killed", *flags, die=kill)
        _, errors = run.communicate(timeout=300)
        assert run.returncode == -signal.SIGKILL, (kill, errors)
        assert left_behind(project / "killed") == expected, kill
    last = start(project, "killed", "--resume")
    output, errors = last.communicate(timeout=300)
    assert last.returncode == 0, errors
    expected_output, errors = whole.communicate(timeout=300)
    assert whole.returncode == 0, errors
    found = adapters(project / "killed")
    assert len(found) == 5 * 2  # five saves of two PEFT adapters
    assert found == adapters(project / "whole")
    assert output.split(", ")[:3] == expected_output.split(", ")[:3]  # step, loss, accuracy
    assert not list((project / "killed").glob(".*"))
