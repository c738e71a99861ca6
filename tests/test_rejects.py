"""The reject corpus: every diagnostic code is triggered by a case in `rejects/`, and has a page.

A case is a txtar file named `CODE-slug.txtar`. Its head holds the command, `surgery check bad.surg` (of several
commands the last is the one that is judged; those before it have to succeed), and, where needed, lines
`copy: specs/minilm/minilm.graph.json` (a file of the repository that the case needs, `copy: FROM as NAME` under
another name), `bytes: NAME ff 00` (a file that is no text) and `# comments`. Sections `-- NAME --` are files.
The last section, `-- expected --`, holds a line `exit 1` and then what is printed, standard output first.
`pytest --update-goldens` rewrites it.
"""

from __future__ import annotations

import re
import shlex
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from surgery.cli.main import main
from surgery.diagnostics import CODES
from surgery.language import load
from surgery.language.method_use import check_methods

HERE = Path(__file__).parent
CASES = sorted((HERE / "rejects").glob("*.txtar"))
SECTION = re.compile(r"^-- (\S+) --\n", re.MULTILINE)
PAGE_SECTIONS = ["What it means", "Why it matters", "Example", "What to do"]


@dataclass(frozen=True)
class Case:
    """A txtar file in parts."""

    head: list[str]
    files: dict[str, str]
    expected: str

    def values(self, key: str) -> Iterator[list[str]]:
        """The words of each line of the head that starts with this key."""
        for line in self.head:
            if line.startswith(key):
                yield shlex.split(line.removeprefix(key))


def read_case(text: str) -> Case:
    head, *parts = SECTION.split(text)
    sections = dict(zip(parts[::2], parts[1::2], strict=True))
    expected = sections.pop("expected", "")
    lines = [line.removeprefix("# ") for line in head.splitlines()]
    return Case(lines, sections, expected)


def lay_out(case: Case, folder: Path) -> None:
    for name, text in case.files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")
    for source, *renamed in case.values("copy:"):
        shutil.copy(HERE.parent / source, folder / (renamed[1] if renamed else Path(source).name))
    for name, *octets in case.values("bytes:"):
        (folder / name).write_bytes(bytes.fromhex("".join(octets)))


def exit_code(arguments: list[str]) -> int:
    try:
        return main(arguments)
    except SystemExit as stop:
        return int(stop.code or 0)


@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)
def test_case(
    path: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    update_goldens: bool,
) -> None:
    text = path.read_text(encoding="utf-8")
    case = read_case(text)
    lay_out(case, tmp_path)
    monkeypatch.chdir(tmp_path)
    *before, judged = case.values("surgery ")
    for arguments in before:
        assert exit_code(arguments) == 0, capsys.readouterr().err
    capsys.readouterr()
    code = exit_code(judged)
    printed = capsys.readouterr()
    found = f"exit {code}\n{printed.out}{printed.err}".replace(str(tmp_path), "$FOLDER")
    if update_goldens:
        path.write_text(text.partition("-- expected --\n")[0] + "-- expected --\n" + found, encoding="utf-8")
    else:
        assert found == case.expected
    diagnostic_code = path.stem.partition("-")[0]
    assert f"[{diagnostic_code}]" in found or f'"{diagnostic_code}"' in found
    has_errors = "error[" in found or '"severity":"error"' in found.replace(" ", "")
    assert (code == 1) == has_errors  # 2 is a plan without its lock
    assert code == 1 or CODES[diagnostic_code].severity == "warning"


@pytest.mark.parametrize("code", CODES)
def test_every_code_has_a_case(code: str) -> None:
    assert any(path.stem.startswith(f"{code}-") for path in CASES), f"no case in tests/rejects triggers {code}"


@pytest.mark.parametrize("code", CODES)
def test_every_code_has_a_page(code: str) -> None:
    page = CODES[code].page
    assert page.startswith(f"# {code}: {CODES[code].title}\n")
    assert re.findall(r"^## (.*)$", page, re.MULTILINE) == PAGE_SECTIONS
    assert "```" in page.partition("## Example")[2], "the example is a fenced block"


@pytest.mark.parametrize("code", ["E0401", "E0402", "E0403", "E0405"])
def test_the_example_on_the_page_of_a_method_s_code_has_that_error(code: str, tmp_path: Path) -> None:
    example = CODES[code].page.split("```")[1]
    (tmp_path / "f.surg").write_text(f"surg 1\n{example}", encoding="utf-8")
    assert {found.code for found in check_methods(load(tmp_path / "f.surg")) if found.is_error} == {code}


def test_every_page_has_a_code() -> None:
    pages = Path(__file__).parents[1] / "surgery" / "diagnostics" / "pages"
    assert {page.stem for page in pages.glob("*.md")} == set(CODES)
