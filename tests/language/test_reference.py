"""Every example of the language reference and of the pages of the codes does what it says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from surgery.diagnostics import CODES, Source, SurgeryError
from surgery.graph import ROLES
from surgery.language import format_text, load_source, tree
from surgery.language.grammar import STATEMENTS
from surgery.language.method_use import check_methods
from surgery.language.selectors import FACT_SETS, INIT_WORDS, SELECTORS
from surgery.methods import METHODS, NOT_SUPPORTED
from surgery.methods.describe import reference

ROOT = Path(__file__).parents[2]
REFERENCE = ROOT / "grammar" / "README.md"
PAGES = ROOT / "surgery" / "diagnostics" / "pages"
FENCE = re.compile(r"^```surg[ ]?(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
# What `surgery check` finds; the other codes need a model, and are triggered by the cases in tests/rejects.
CHECKED = {code for code in CODES if code[:3] in ("E00", "E01")} | {"E0401", "E0402", "E0403", "E0405", "W0904"}
EXAMPLES = [
    pytest.param(code, text, id=f"{file.stem}-{number}{'-' + code if code else ''}")
    for file in [REFERENCE, *sorted(PAGES.glob("*.md"))]
    for number, (code, text) in enumerate(FENCE.findall(file.read_text(encoding="utf-8")), 1)
    if code in CHECKED or (not code and file == REFERENCE)
]


def findings(text: str) -> list[str]:
    """The codes of what `surgery check` says of a text."""
    try:
        spec = load_source(Source("example.surg", text), Path("example.surg"), {})
    except SurgeryError as error:
        return [diagnostic.code for diagnostic in error.diagnostics]
    return [diagnostic.code for diagnostic in (*spec.diagnostics, *check_methods(spec))]


@pytest.mark.parametrize(("code", "text"), EXAMPLES)
def test_example(code: str, text: str) -> None:
    assert set(findings(text)) == ({code} if code else set())


@pytest.mark.parametrize(
    "text", [text for code, text in FENCE.findall(REFERENCE.read_text(encoding="utf-8")) if not code]
)
def test_the_references_examples_are_formatted(text: str) -> None:
    assert format_text(Source("example.surg", text)) == text


def test_the_reference_has_a_section_with_an_example_for_every_statement() -> None:
    for statement in STATEMENTS:
        section = REFERENCE.read_text(encoding="utf-8").partition(f"\n### `{statement}`\n")[2].partition("\n### ")[0]
        assert any(re.search(rf"^{statement}\b", text, re.MULTILINE) for _, text in FENCE.findall(section)), statement


@pytest.mark.parametrize(
    "word",
    [
        *(*SELECTORS, *FACT_SETS, *INIT_WORDS, *ROLES, *tree.WHERE_FIELDS),
    ],
)
def test_the_reference_names_every_word(word: str) -> None:
    assert re.search(rf"`{word}\b", REFERENCE.read_text(encoding="utf-8"))


def test_the_page_of_methods_is_the_registry(golden) -> None:
    golden(reference(METHODS, NOT_SUPPORTED), str(REFERENCE.with_name("methods.md")))
