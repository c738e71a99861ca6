"""The demo itself, on a few functions and steps, with the real model."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from safetensors.torch import load_file

from surgery.cli.main import main

STEPS = 6
LIMIT = 128


@pytest.mark.heavy
def test_demo_trains_exports_and_improves(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from surgery.demo.walkthrough import walk_through

    outcome = walk_through(tmp_path, steps=STEPS, limit=LIMIT)
    text = capsys.readouterr().out
    assert "36 modules, with 331,776 parameters, exactly as planned" in text
    assert "max abs difference to the base model 0" in text
    assert f"on {LIMIT} held-out functions" in text
    assert (outcome.after.ranks + 1).double().log().mean() < (outcome.before.ranks + 1).double().log().mean()
    config = json.loads((outcome.adapter / "adapter_config.json").read_text(encoding="utf-8"))
    assert config["peft_type"] == "LORA"
    assert any(
        tensor.any()
        for name, tensor in load_file(outcome.adapter / "adapter_model.safetensors").items()
        if "lora_B" in name
    )


def test_a_folder_in_use_is_left_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "mine.txt").write_text("keep", encoding="utf-8")
    assert main(["demo", "--out", str(tmp_path)]) == 1
    assert "it is not empty" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_missing_packages_are_named(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("surgery.demo.pretrained._WEIGHTS", "a_package_that_is_not_there")
    assert main(["demo"]) == 1
    error = capsys.readouterr().err
    assert "`a_package_that_is_not_there`" in error
    assert "model-surgery[demo]" in error
