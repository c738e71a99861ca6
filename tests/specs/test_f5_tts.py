"""F5TTS_v1_Base at full size: what the pull request listed by suffix, proved on the graph."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import surgery
from surgery.planning import Plan

HERE = Path(__file__).parents[2] / "specs" / "f5_tts"
SUFFIXES = ("to_q", "to_k", "to_v", "to_out.0", "ff.ff.0.0", "ff.ff.2")
MODULATION = {f"transformer_blocks.{i}.attn_norm.linear" for i in range(22)} | {"norm_out.linear"}
# Globally normalised responses of the text encoder start as zeros too: f5_tts/model/modules.py, class GRN.
RESPONSE_NORMS = {f"text_embed.text_blocks.{i}.grn" for i in range(4)}
EXCLUDED = ("attn_norm", "ff_norm", "norm_out", "proj_out", "time_embed", "text_embed", "input_embed")


@pytest.fixture(scope="module")
def plan() -> Plan:
    return surgery.plan(surgery.load(HERE / "f5_base.surg"), surgery.read_graph(HERE / "f5_base.graph.json"))


def covers(plan: Plan, selector: str) -> set[str]:
    return set(next(guard for guard in plan.never if guard.selector == selector).covers)


def test_the_sites_are_those_of_the_suffixes(plan: Plan) -> None:
    graph = surgery.read_graph(HERE / "f5_base.graph.json")
    by_suffix = {
        p for p in graph if p.startswith("transformer_blocks.") and p.endswith(tuple("." + s for s in SUFFIXES))
    }
    assert plan.applyable
    assert {site.path for site in plan.sites} == by_suffix
    assert len(plan.sites) == 132 == 22 * len(SUFFIXES)


def test_modulation_is_found_by_data_flow(plan: Plan) -> None:
    assert covers(plan, "role(modulation)") == MODULATION
    assert covers(plan, "role(conditioning)") == {"time_embed.time_mlp.0", "time_embed.time_mlp.2"}


def test_zeros_carry_the_line_that_made_them(plan: Plan) -> None:
    guard = next(guard for guard in plan.never if guard.selector == "init(zero)")
    assert set(guard.covers) == MODULATION | {"proj_out"} | RESPONSE_NORMS
    import f5_tts.model.backbones.dit as module

    lines = Path(module.__file__).read_text(encoding="utf-8").splitlines()
    for path in MODULATION | {"proj_out"}:
        place = re.search(r"f5_tts/model/backbones/dit\.py:(\d+)", guard.evidence[path])
        assert place, path
        statement = lines[int(place[1]) - 1]
        name = path.rpartition("transformer_blocks.")[2].split(".", 1)[-1] if path in MODULATION else path
        assert "nn.init.constant_" in statement
        assert statement.strip().endswith(", 0)")
        assert name.split(".")[-1] in statement


def test_nothing_protected_is_touched(plan: Plan) -> None:
    protected = {path for guard in plan.never for path in guard.covers}
    touched = {site.path for site in plan.sites} | set(plan.trained)
    assert not touched & protected
    assert not any(part in path.split(".") for path in touched for part in EXCLUDED)


def test_every_second_block_is_checkpointed(plan: Plan) -> None:
    assert plan.checkpointed == [f"transformer_blocks.{i}" for i in range(0, 22, 2)]


def test_gates_as_a_target_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from surgery.cli.main import main

    text = (HERE / "f5_base.surg").read_text(encoding="utf-8")
    start = text.index("target attention")
    wide = 'target gates { select path("**.linear")  expect 23  lora { r = 8  alpha = 8 } }\n'
    spec = tmp_path / "wide.surg"
    spec.write_text(text[:start] + wide, encoding="utf-8")
    assert main(["plan", str(spec), "--graph", str(HERE / "f5_base.graph.json")]) == 1
    shown = capsys.readouterr().err
    assert "E0301" in shown
    assert all(path in shown for path in MODULATION)
    assert "f5_tts/model/modules.py:755" in shown  # where the gate acts
    assert "f5_tts/model/backbones/dit.py:267" in shown  # where its weight is zeroed
    assert "f5_tts/model/backbones/dit.py:271" in shown
    assert "because" in shown
