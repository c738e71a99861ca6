"""`surgery facts`: filters, and the JSON that other tools read."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from surgery.cli.main import main

SPECS = Path(__file__).parents[2] / "specs"
F5 = str(SPECS / "f5_tts" / "f5_base.graph.json")


def printed(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(["facts", F5, *arguments]) == 0
    return capsys.readouterr().out


def test_json_of_every_module(capsys: pytest.CaptureFixture[str]) -> None:
    modules = json.loads(printed(capsys, "--format", "json"))["modules"]
    assert len(modules) == 493
    keys = {"kind", "calls", "unreached", "bypassed", "init", "tied", "block", "roles"}
    assert all(keys <= module.keys() for module in modules.values())
    gate = modules["transformer_blocks.3.attn_norm.linear"]
    assert (gate["kind"], gate["calls"], gate["unreached"], gate["bypassed"]) == ("Linear", 1, "no", "no")
    assert gate["init"]["weight"] == {"value": "zero", "place": "f5_tts/model/backbones/dit.py:267"}
    assert gate["block"] == {"family": "transformer_blocks.*", "index": 3}
    assert gate["roles"]["modulation"].startswith("silu -> linear -> chunk(6)")


def test_by_role_and_path(capsys: pytest.CaptureFixture[str]) -> None:
    options = ("--role", "modulation", "--path", "transformer_blocks.[0:2].**", "--format", "json")
    found = json.loads(printed(capsys, *options))["modules"]
    assert set(found) == {f"transformer_blocks.{i}.attn_norm.linear" for i in (0, 1)}


def test_text_puts_equal_modules_on_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    text = printed(capsys)
    assert "transformer_blocks.*  22 blocks" in text
    assert text.count("attn.to_q") == 1
    assert "  transformer_blocks.[0:22].attn.to_q  x 22  Linear 1024x1024" in text
    assert "weight starts as zero (f5_tts/model/backbones/dit.py:267)" in text


def test_several_weights_of_one_module(capsys: pytest.CaptureFixture[str]) -> None:
    graph = str(SPECS / "qwen3_moe" / "qwen3_30b_a3b.graph.json")
    assert main(["facts", graph, "--role", "feedforward_out"]) == 0
    text = capsys.readouterr().out
    assert "      gate_up_proj 128x1536x2048  feedforward_in\n" in text
    assert "      down_proj 128x2048x768  feedforward_out, residual_output\n" in text
    assert main(["facts", graph, "--role", "feedforward_out", "--format", "json"]) == 0
    found = json.loads(capsys.readouterr().out)["modules"]["model.layers.7.mlp.experts"]
    assert found["role_parameters"]["feedforward_in"] == ["gate_up_proj"]


@pytest.mark.parametrize(
    ("option", "value", "says"),
    [
        ("--role", "modulaton", "did you mean `modulation`"),
        ("--path", "transformer_bloks.**", "did you mean `transformer_blocks`"),
        ("--path", "a..b", "E0009"),
    ],
)
def test_what_matches_nothing_is_an_error(
    capsys: pytest.CaptureFixture[str], option: str, value: str, says: str
) -> None:
    assert main(["facts", F5, option, value]) == 1
    captured = capsys.readouterr()
    assert says in captured.err
    assert not captured.out
