"""`surgery check` and `surgery fmt`."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest

from surgery.cli.main import main

GOOD = 'surg 1\nlet blocks = path("blocks.*")\nnever blocks\n'
UNFORMATTED = 'surg 1\nlet blocks=path("blocks.*") never blocks # note\n'
FORMATTED = 'surg 1\nlet blocks = path("blocks.*")\nnever blocks  # note\n'


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "good.surg").write_text(GOOD)
    (tmp_path / "bad.surg").write_text('surg 1\nnever role(modulatoin)\nnever path("a..b")\n')
    (tmp_path / "ugly.surg").write_text(UNFORMATTED)
    return tmp_path


def test_check_of_good_files(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "good.surg", "ugly.surg"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "good.surg: ok (0 targets, 1 protection, 0 params)",
        "ugly.surg: ok (0 targets, 1 protection, 0 params)",
    ]


def test_check_goes_on_after_a_bad_file(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "missing.surg", "bad.surg", "good.surg"]) == 1
    printed = capsys.readouterr()
    assert printed.out == "good.surg: ok (0 targets, 1 protection, 0 params)\n"
    assert [line.partition("]")[0] for line in printed.err.splitlines() if line.startswith("error")] == [
        "error[E0501",
        "error[E0103",
        "error[E0009",
    ]


def test_check_as_json(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "--format", "json", "good.surg", "bad.surg"]) == 1
    good, bad = json.loads(capsys.readouterr().out)["files"]
    assert (good["file"], good["ok"], good["diagnostics"]) == ("good.surg", True, [])
    assert not bad["ok"]
    assert [(found["code"], found["span"]["line"]) for found in bad["diagnostics"]] == [("E0103", 2), ("E0009", 3)]


def test_check_knows_the_methods(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("t.surg").write_text(
        "surg 1\ntarget a { select all  lorra { r = 8 } }\ntarget b { select all  lora { rnk = 8  alpha = -1 } }\n"
    )
    assert main(["check", "t.surg"]) == 1
    assert [line.partition("]")[0] for line in capsys.readouterr().err.splitlines() if line.startswith("error")] == [
        "error[E0401",
        "error[E0402",
        "error[E0403",
    ]


def test_fmt_rewrites_and_then_is_content(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fmt", "good.surg", "ugly.surg"]) == 0
    assert capsys.readouterr().out == "ugly.surg: formatted\n"
    assert (folder / "ugly.surg").read_text() == FORMATTED
    assert main(["fmt", "--check", "good.surg", "ugly.surg"]) == 0
    assert sorted(path.name for path in folder.iterdir()) == ["bad.surg", "good.surg", "ugly.surg"]


def test_fmt_check_changes_nothing(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fmt", "--check", "good.surg", "ugly.surg"]) == 1
    assert capsys.readouterr().out == "ugly.surg: not formatted\n"
    assert (folder / "ugly.surg").read_text() == UNFORMATTED


def test_fmt_leaves_a_file_with_syntax_errors_alone(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "bad.surg").write_text("surg 1\nlet a =\n")
    assert main(["fmt", "bad.surg", "ugly.surg"]) == 1
    assert "E0001" in capsys.readouterr().err
    assert (folder / "bad.surg").read_text() == "surg 1\nlet a =\n"
    assert (folder / "ugly.surg").read_text() == FORMATTED


def test_fmt_of_standard_input(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(UNFORMATTED.encode())))
    assert main(["fmt", "-"]) == 0
    assert capsys.readouterr().out == FORMATTED
