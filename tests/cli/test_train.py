import argparse
import shutil
from dataclasses import MISSING, fields, replace
from pathlib import Path

import pytest

from surgery.cli.main import main
from surgery.cli.train import add_parser, config_of
from surgery.training import TrainConfig

PROJECT = Path(__file__).parents[1] / "training" / "project"


def parse(*arguments):
    parser = argparse.ArgumentParser()
    add_parser(parser.add_subparsers())
    return config_of(parser.parse_args(["train", "f.surg", "--task", "m:f", "--out", "run", *arguments]))


def test_the_defaults_of_the_flags_are_those_of_the_fields():
    assert parse("--steps", "3") == TrainConfig(out="run", steps=3)


def test_every_field_has_a_flag_and_its_help_tells_the_default(capsys):
    assert main_exit("train", "--help") == 0
    shown = " ".join(capsys.readouterr().out.split())
    for knob in fields(TrainConfig):
        assert f"--{knob.name.replace('_', '-')}" in shown
        if knob.default not in (MISSING, None, True, (0.9, 0.999)):
            assert f"(default: {knob.default})" in shown


@pytest.mark.parametrize(
    ("arguments", "changes"),
    [
        ("--batch-size 2 --learning-rate 3e-4", {"batch_size": 2, "learning_rate": 3e-4}),
        ("--betas 0.8 0.9", {"betas": (0.8, 0.9)}),
        ("--max-grad-norm none --keep-last none", {"max_grad_norm": None, "keep_last": None}),
        ("--no-tensorboard --progress", {"tensorboard": False, "progress": True}),
        ("--resume", {"resume": "latest"}),
        ("--resume run/state_4", {"resume": "run/state_4"}),
        ("--schedule cosine", {"schedule": "cosine"}),
    ],
)
def test_flags_set_fields(arguments, changes):
    assert parse("--steps", "3", *arguments.split()) == replace(TrainConfig(out="run", steps=3), **changes)


def main_exit(*arguments):
    try:
        return main(arguments)
    except SystemExit as stop:
        return int(stop.code or 0)


@pytest.fixture
def project(tmp_path, monkeypatch):
    """The small project, captured and locked, as the current folder."""
    folder = shutil.copytree(PROJECT, tmp_path / "project")
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(folder)
    assert main(["capture", "tiny.surg"]) == 0
    assert main(["lock", "tiny.surg"]) == 0
    return folder


QUICK = ("--steps", "1", "--batch-size", "4", "--no-tensorboard")


def test_a_plan_that_was_not_accepted_is_trained_only_on_purpose(project, capsys):
    command = ["train", "tiny.surg", "--task", "tiny:unmask", "--out", "run", *QUICK, "--set", "rank=3"]
    assert main(command) == 1
    error = capsys.readouterr().err
    assert "error[E0515]" in error
    assert "attention.self.query`: r: 4 -> 3" in error
    assert not (project / "run").exists()
    assert main([*command, "--no-lock"]) == 0
    assert capsys.readouterr().out.startswith("step 1, loss ")


def test_weights_are_read_before_training(project, capsys):
    import tiny
    from safetensors.torch import load_file, save_model

    from surgery.planning import read_plan

    model = tiny.build()
    model.encoder.layer[1].output.LayerNorm.bias.data.fill_(7.0)
    save_model(model, "weights.safetensors")
    command = [
        "train",
        "tiny.surg",
        "--task",
        "tiny:unmask",
        "--out",
        "run",
        *QUICK,
        "--weights",
        "weights.safetensors",
    ]
    assert main(command) == 0, capsys.readouterr().err
    assert read_plan(project / "run" / "plan.json").sites
    saved = {k: v for f in project.glob("run/adapter_1/*/*.safetensors") for k, v in load_file(f).items()}
    [bias] = [tensor for name, tensor in saved.items() if name.endswith("LayerNorm.bias")]
    assert (bias - 7).abs().max() < 0.01
