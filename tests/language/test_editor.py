"""The TextMate grammar knows what the grammar knows."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from lark.lexer import PatternStr

from surgery.language.grammar import lalr
from surgery.language.selectors import FACT_SETS, SELECTORS

FILE = Path(__file__).parents[2] / "grammar" / "editor" / "surg.tmLanguage.json"
GRAMMAR = json.loads(FILE.read_text(encoding="utf-8"))
KEYWORDS = sorted(
    terminal.pattern.value
    for terminal in lalr().terminals
    if isinstance(terminal.pattern, PatternStr) and terminal.pattern.value.isalpha()
)


def patterns(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        yield from (node[key] for key in ("match", "begin", "end") if key in node)
        for value in node.values():
            yield from patterns(value)
    elif isinstance(node, list):
        for value in node:
            yield from patterns(value)


def scope(text: str, position: int) -> str:
    """The scope of a character: of the earliest match, and of several of these the first rule's."""
    at = 0
    rules = [GRAMMAR["repository"][include["include"][1:]] for include in GRAMMAR["patterns"]]
    while True:
        found = [(match.start(), number, match) for number, rule in enumerate(rules) if "match" in rule
                 for match in [re.compile(rule["match"]).search(text, at)] if match]  # fmt: skip
        assert found, f"nothing matches {text[at:]!r}"
        _, number, match = min(found, key=lambda item: item[:2])
        if match.end() > position:
            return str(rules[number].get("name", ""))
        at = match.end()


def test_every_pattern_is_a_regular_expression_and_every_include_exists() -> None:
    assert [re.compile(pattern) for pattern in patterns(GRAMMAR)]
    assert {include["include"] for include in GRAMMAR["patterns"]} == {f"#{name}" for name in GRAMMAR["repository"]}


@pytest.mark.parametrize("word", [*KEYWORDS, "use", "serve"])
def test_every_keyword_is_highlighted(word: str) -> None:
    text = f"{word}(x)" if word in (*SELECTORS, "count", "json") else f"{word} x"
    assert scope(text, 0).startswith(("keyword", "constant", "support"))


@pytest.mark.parametrize("word", SELECTORS)
def test_every_selector_is_highlighted(word: str) -> None:
    assert scope(f"never {word}(x)", 6) == "support.function.surg"


@pytest.mark.parametrize("word", FACT_SETS)
def test_every_fact_is_highlighted(word: str) -> None:
    assert scope(f"never {word}", 6) == "support.constant.surg"


def test_a_setting_is_no_keyword() -> None:
    assert scope("model = 3", 0) == "variable.parameter.surg"
