"""`surgery plan`, `lock` and `explain` as commands: exit codes, output, files."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from surgery.cli.main import main
from surgery.diagnostics import CODES

SPEC = """surg 1
param rank: int = 2
graph "toy.graph.json"
target queries { select path("blocks.*.attn.to_q") expect 4 lora { r = rank  alpha = rank } }
"""


@pytest.fixture
def spec(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A spec of the toy model, in the current folder."""
    shutil.copy(Path(__file__).parent / "toy.graph.json", tmp_path)
    (tmp_path / "f.surg").write_text(SPEC)
    monkeypatch.chdir(tmp_path)
    return Path("f.surg")


def test_from_no_lock_to_no_change_to_a_change(spec: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", str(spec)]) == 2
    assert "There is no lock yet" in capsys.readouterr().out
    assert main(["lock", str(spec)]) == 0
    assert capsys.readouterr().out == "f.surg.lock: 4 sites locked\n"
    assert main(["plan", str(spec)]) == 0
    assert main(["plan", str(spec), "--set", "rank=3"]) == 2
    spec.write_text(SPEC.replace("to_q", "to_qq"))
    assert main(["plan", str(spec)]) == 1
    assert "error[E0201]" in capsys.readouterr().err


def test_the_plan_as_json(spec: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", str(spec), "--format", "json", "--out", "plan.json"]) == 2
    printed = json.loads(capsys.readouterr().out)
    assert printed == json.loads(Path("plan.json").read_text())
    assert printed["applyable"] is True
    assert printed["fingerprints"]["graph"].startswith("sha256:")


def test_a_plan_with_errors_writes_nothing(spec: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spec.write_text(SPEC.replace("expect 4", "expect 5"))
    assert main(["plan", str(spec), "--format", "json", "--out", "plan.json"]) == 1
    captured = capsys.readouterr()
    assert json.loads(captured.out)["diagnostics"][0]["code"] == "E0203"
    assert "error[E0203]" in captured.err
    assert main(["lock", str(spec)]) == 1
    assert sorted(path.name for path in Path().iterdir()) == ["f.surg", "toy.graph.json"]


def test_a_lock_replaces_whatever_was_there(spec: Path) -> None:
    Path("f.surg.lock").write_text("<<<<<<< HEAD")
    assert main(["plan", str(spec)]) == 1
    assert main(["lock", str(spec)]) == 0
    assert main(["plan", str(spec)]) == 0


def test_another_graph(spec: Path) -> None:
    Path("toy.graph.json").rename("other.graph.json")
    assert main(["plan", str(spec)]) == 1
    assert main(["plan", str(spec), "--graph", "other.graph.json"]) == 2


def test_explaining_a_module(spec: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", str(spec), "blocks.1.attn.to_q"]) == 0
    assert "targeted by queries (f.surg:4): lora r=2 alpha=2" in capsys.readouterr().out
    assert main(["explain", str(spec), "blocks.1.attn.to_p"]) == 1
    assert "did you mean `blocks.1.attn.to_" in capsys.readouterr().err


def test_explaining_a_module_of_a_plan_with_errors(spec: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spec.write_text(SPEC.replace("expect 4", "expect 5"))
    assert main(["explain", str(spec), "blocks.1.attn.to_q"]) == 0
    assert "the plan has 1 error" in capsys.readouterr().out


def test_explaining_a_code(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", "e0301"]) == 0
    assert capsys.readouterr().out == CODES["E0301"].page
    assert main(["explain", "E0300"]) == 1
    assert "did you mean `E0" in capsys.readouterr().err
