"""The README's examples are real: its files are planned, and its console blocks are what the commands print."""

from __future__ import annotations

import re
import shlex
import shutil
from pathlib import Path

import pytest

from surgery.cli.main import main

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
GRAPH = ROOT / "specs" / "f5_tts" / "f5_base.graph.json"

FILE = re.compile(r"<!-- file: (\S+) -->\n```\n(.*?)```\n", re.DOTALL)
CONSOLE = re.compile(r"```console\n\$ surgery (.*?)\n(.*?)```\n", re.DOTALL)


def test_examples(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, update_goldens: bool
) -> None:
    text = README.read_text(encoding="utf-8")
    shutil.copy(GRAPH, tmp_path)
    monkeypatch.chdir(tmp_path)
    for name, content in FILE.findall(text):
        Path(name).write_text(content, encoding="utf-8")

    def printed(block: re.Match[str]) -> str:
        main(shlex.split(block[1]))
        output = capsys.readouterr()
        return f"```console\n$ surgery {block[1]}\n{output.out}{output.err}```\n"

    real = CONSOLE.sub(printed, text)
    assert len(CONSOLE.findall(text)) >= 2
    if update_goldens:
        README.write_text(real, encoding="utf-8")
    assert real == README.read_text(encoding="utf-8")


def test_the_first_example_is_applyable_and_the_second_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copy(GRAPH, tmp_path)
    monkeypatch.chdir(tmp_path)
    good, bad = FILE.findall(README.read_text(encoding="utf-8"))
    for name, content in (good, bad):
        Path(name).write_text(content, encoding="utf-8")
    assert main(["plan", good[0]]) == 2  # changes: there is no lock yet
    assert "132 sites" in capsys.readouterr().out
    assert main(["plan", bad[0]]) == 1
    assert "E0301" in capsys.readouterr().err


def test_links_lead_somewhere() -> None:
    links = re.findall(r"\]\((?!https?:)([^)#]+)", README.read_text(encoding="utf-8"))
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []
