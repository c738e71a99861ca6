"""`surgery swaps`: what it prints, for people and for machines, and its exit codes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from surgery.cli.main import main

TOY = Path(__file__).parents[1] / "planning" / "toy.graph.json"
SPEC = """surg 1
graph "toy.graph.json"
target queries { select path("blocks.SOME.attn.to_q") lora { r = RANK } }
"""


@pytest.fixture
def locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Three locks, of different ranks; `some` is of two of the four modules."""
    shutil.copy(TOY, tmp_path)
    monkeypatch.chdir(tmp_path)
    for name, some, rank in (("all", "*", 4), ("wide", "*", 16), ("some", "{0,1}", 8)):
        Path(f"{name}.surg").write_text(SPEC.replace("SOME", some).replace("RANK", str(rank)))
        assert main(["lock", f"{name}.surg"]) == 0
    capsys.readouterr()


@pytest.mark.usefixtures("locks")
def test_ready(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["swaps", "all.surg", "wide.surg", "some.surg.lock"]) == 0
    assert capsys.readouterr().out == (
        "wide.surg: can be swapped into a model prepared with max_rank = 16\n"
        "  4 modules, without padding: blocks.[0:4].attn.to_q\n"
        "some.surg.lock: can be swapped into a model prepared with max_rank = 16\n"
        "  2 modules, 8 ranks of zeros: blocks.[0:2].attn.to_q\n"
        "  2 modules, not adapted by it: blocks.[2:4].attn.to_q\n"
    )


@pytest.mark.usefixtures("locks")
def test_not_ready(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["swaps", "all.surg", "wide.surg", "some.surg", "--max-rank", "8"]) == 1
    captured = capsys.readouterr()
    assert captured.out.startswith("some.surg: can be swapped")
    assert "error[E0520]" in captured.err
    assert "rank 16, above the prepared 8: blocks.0.attn.to_q, blocks.1.attn.to_q and 2 more" in captured.err


@pytest.mark.usefixtures("locks")
def test_no_room_at_all(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["swaps", "all.surg", "all.surg", "--max-rank", "0"]) == 1
    assert "its rank 4 is above the prepared 0" in capsys.readouterr().err


@pytest.mark.usefixtures("locks")
def test_what_cannot_be_prepared_is_said_of_the_prepared_plan_alone(capsys: pytest.CaptureFixture[str]) -> None:
    Path("turned.surg").write_text(SPEC.replace("SOME", "*").replace("lora { r = RANK }", "oft { block_size = 4 }"))
    assert main(["lock", "turned.surg"]) == 0
    assert main(["swaps", "turned.surg", "all.surg", "turned.surg"]) == 1
    error = capsys.readouterr().err
    assert error.count("error[E0520]") == 1
    assert "a model of this plan cannot be prepared for swapping" in error
    assert "= help: plan lora, loha or lokr" in error


@pytest.mark.usefixtures("locks")
def test_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["swaps", "some.surg", "all.surg", "--format", "json"]) == 1
    report = json.loads(capsys.readouterr().out)
    assert (report["prepared"], report["max_rank"]) == ("some.surg", 8)
    (found,) = report["files"]
    assert (found["file"], found["ready"]) == ("all.surg", False)
    assert found["padding"] == {"blocks.0.attn.to_q": 4, "blocks.1.attn.to_q": 4}
    assert found["obstacles"] == [
        {
            "reason": "adapted by it, and not in the prepared model",
            "paths": ["blocks.2.attn.to_q", "blocks.3.attn.to_q"],
        }
    ]


@pytest.mark.usefixtures("locks")
def test_no_lock(capsys: pytest.CaptureFixture[str]) -> None:
    Path("new.surg").write_text(SPEC)
    assert main(["swaps", "all.surg", "new.surg"]) == 1
    assert "cannot read the lock" in capsys.readouterr().err
