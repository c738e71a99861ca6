"""Two processes with half the batch each, joined by gloo, against one process."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from surgery.diagnostics import SurgeryError
from surgery.training import TrainConfig, train

ROOT = Path(__file__).parents[2]


def tensors(adapter):
    files = sorted(adapter.rglob("*.safetensors"))
    return {f"{file.parent.name}/{name}": tensor for file in files for name, tensor in load_file(file).items()}


def settings(out, batch_size, **more):
    return TrainConfig(
        out=out, steps=6, batch_size=batch_size, gradient_accumulation=2, learning_rate=0.01, tensorboard=False, **more
    )


def test_two_processes_train_what_one_does(tiny, make_plan, tmp_path):
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    launched = subprocess.run(
        [*launch, "two_processes.py", str(tmp_path / "two"), "2"],
        cwd=Path(__file__).parent / "project",
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert launched.returncode == 0, launched.stderr
    plan = make_plan(dropout=0.0)
    task = tiny.Unmask(masking=False)
    one = train(tiny.build(dropout=0.0), plan, task, settings(tmp_path / "one", 4))
    found = tensors(tmp_path / "two" / "adapter_6")
    for name, tensor in tensors(one.adapter).items():
        torch.testing.assert_close(found[name], tensor, rtol=1e-3, atol=1e-4)

    names = sorted(path.name for path in (tmp_path / "two").iterdir())
    assert names == ["adapter_3", "adapter_6", "plan.json", "state_3", "state_6"]
    assert len(json.loads((tmp_path / "two" / "state_6" / "state.json").read_text())["rng"]) == 2
    with pytest.raises(SurgeryError) as caught:
        train(tiny.build(dropout=0.0), plan, task, settings(tmp_path / "two", 2, resume="latest"))
    assert caught.value.diagnostics[0].notes == ("processes: 2 -> 1",)
