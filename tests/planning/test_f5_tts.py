"""The figures of the F5-TTS specification, on the graph of the real class at full size."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

import surgery
from surgery.cli.main import main
from surgery.graph.file import read_graph
from surgery.planning.plan import Plan

FOLDER = Path(__file__).parents[2] / "specs" / "f5_tts"
MODULATION = [*(f"transformer_blocks.{block}.attn_norm.linear" for block in range(22)), "norm_out.linear"]
ADAPTED = ("attn.to_q", "attn.to_k", "attn.to_v", "attn.to_out.0", "ff.ff.0.0", "ff.ff.2")


@pytest.fixture(scope="module")
def plan() -> Plan:
    spec = surgery.load(FOLDER / "f5_base.surg")
    return surgery.plan(spec, read_graph(spec.graph_path))


def test_the_sites_are_those_of_the_pull_request(plan: Plan) -> None:
    assert plan.applyable
    assert {site.path for site in plan.sites} == {
        f"transformer_blocks.{block}.{leaf}" for block in range(22) for leaf in ADAPTED
    }
    assert len(plan.sites) == 132
    assert plan.totals.total == 337_096_804


def test_modulation_is_what_the_zeroing_lines_made(plan: Plan) -> None:
    covers = {guard.selector: guard for guard in plan.never}
    assert covers["role(modulation)"].covers == MODULATION
    zero = covers["init(zero)"]
    assert {*MODULATION, "proj_out"} <= set(zero.covers)
    for path in (*MODULATION, "proj_out"):
        assert "starts as zero (f5_tts/model/backbones/dit.py:" in zero.evidence[path]


def test_nothing_protected_is_touched(plan: Plan) -> None:
    covered = {path for guard in plan.never for path in guard.covers}
    assert not covered & {site.path for site in plan.sites}
    assert not covered & set(plan.trained)


def test_adapting_every_linear_by_name_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = (FOLDER / "f5_base.surg").read_text()
    wanted = 'linear & path("**.attn.{to_q,to_k,to_v,to_out.0}")\n  expect 4 * count(blocks)'
    assert wanted in text
    (tmp_path / "f5_base.surg").write_text(text.replace(wanted, 'path("**.linear")\n  expect 23'))
    shutil.copy(FOLDER / "f5_base.graph.json", tmp_path)
    assert main(["plan", str(tmp_path / "f5_base.surg")]) == 1
    shown = capsys.readouterr().err
    assert "error[E0301]: target `attention` adapts 23 protected modules" in shown
    assert all(path in shown for path in MODULATION)
    assert 'select path("**.linear")' in shown
    assert "never role(modulation)" in shown
    assert "dit.py:267" in shown
    assert "dit.py:271" in shown
