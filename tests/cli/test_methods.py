"""`surgery methods`: the registry, printed."""

from __future__ import annotations

import json

import pytest

from surgery.cli.main import main
from surgery.methods import METHODS


def test_the_list_has_a_line_for_each(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["methods"]) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == list(METHODS)


@pytest.mark.parametrize("name", METHODS)
def test_a_page_names_every_setting_with_its_default(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["methods", name]) == 0
    text = capsys.readouterr().out
    assert METHODS[name].paper in text
    for setting in METHODS[name].settings:
        assert f"\n  {setting.name} " in text


def test_a_page_says_what_else_there_is_to_know_in_lines_that_a_terminal_holds(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["methods", "lily"]) == 0
    assert "what a sample comes out as depends on those beside it" in " ".join(capsys.readouterr().out.split())
    assert main(["methods", "lora"]) == 0
    assert max(map(len, capsys.readouterr().out.splitlines())) <= 110


def test_json_is_the_registry(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["methods", "lora", "--format", "json"]) == 0
    [lora] = json.loads(capsys.readouterr().out)
    assert lora["layers"] == list(METHODS["lora"].layers)
    assert {setting["name"]: setting["default"] for setting in lora["settings"]}["r"] == 8


@pytest.mark.parametrize(("name", "help"), [("lorra", "did you mean `lora`?"), ("xlora", "not offered here")])
def test_an_unknown_method_gets_a_way_out(name: str, help: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["methods", name]) == 1
    error = capsys.readouterr().err
    assert "E0401" in error
    assert help in error
