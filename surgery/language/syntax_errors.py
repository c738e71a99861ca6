"""Lark's complaints in words that people know."""

from __future__ import annotations

from collections.abc import Iterable
from string import ascii_letters, digits

from lark import UnexpectedCharacters, UnexpectedInput, UnexpectedToken
from lark.lexer import PatternStr

from surgery.diagnostics import Diagnostic, Source, Span
from surgery.language.expressions import UNITS
from surgery.language.grammar import STATEMENTS, WORD_END, lalr
from surgery.language.nearest import did_you_mean

_WORDS = {
    "NAME": "a name",
    "KEY": "a setting such as `rank = 16`",
    "TEXT": "a string in double quotes",
    "NUMBER": "a number",
    "REFERENCE": "a class or function such as `package.module:Name`",
    "SLICE": "a slice such as `0:11`",
    "COMPARISON": "a comparison such as `>=`",
    "LIMIT": "`<=`",
}
_VALUE = {"NUMBER", "SIZE", "SHARE", "TRUE", "FALSE", "NONE", "TEXT", "NAME", "REFERENCE"} | {
    *("LSQB", "JSON", "COUNT", "LPAR", "MINUS", "NOT")
}
_SET = {"NAME", "WHERE", "LPAR"}
_WORD_CHARACTERS = ascii_letters + digits + "_"
_LONGEST_WORD = 80
_HINTS = {
    "'": 'strings are written with double quotes: "..."',
    "//": "a comment starts with `#`",
    ";": "statements and settings need no `;`",
    ":": "a setting is written `name = value`, and a slice without blanks, `0:4`",
    ".": "classes are named without their package, `kind(Linear)`, and numbers start with a digit, `0.5`",
    "\u201c": 'strings are written with double quotes: "..."',
}


def diagnose(error: UnexpectedInput, source: Source, offset: int) -> Diagnostic:
    """E0001 for a token or character that fits nowhere. `offset` is where the parsed text starts in the source."""
    expected = _expected(error)
    if isinstance(error, UnexpectedToken) and error.token.type == "$END":
        end = (error.token.end_pos or 0) + offset
        return Diagnostic(
            "E0001", "this statement is not finished", Span(source, end - 1, end), helps=(_expected_help(expected),)
        )
    start = (error.pos_in_stream or 0) + offset
    text = str(error.token) if isinstance(error, UnexpectedToken) else source.text[start]
    span = Span(source, start, start + len(text))
    if "LET" in expected and text.isidentifier() and _is_first_on_line(source, start):
        helps = did_you_mean(text, STATEMENTS, "a statement starts with one of " + ", ".join(STATEMENTS))
        return Diagnostic("E0001", f"there is no statement `{text}`", span, helps=helps)
    if mistyped := _mistyped_before(source, start, expected):
        return mistyped
    hint = next((hint for lead, hint in _HINTS.items() if source.text.startswith(lead, start)), "")
    if not hint and not text.isascii():
        hint = "names, numbers and blanks are plain ASCII characters; others stand in strings and comments only"
    near = did_you_mean(text, _keywords(expected)) if text.isidentifier() else ()
    helps = near or (hint or _expected_help(expected) if expected or hint else "remove it",)
    shown = text if text.isprintable() else ascii(text)[1:-1]
    return Diagnostic("E0001", f"unexpected `{shown}`", span, helps=helps)


def _mistyped_before(source: Source, end: int, expected: set[str]) -> Diagnostic | None:
    """E0001 for the word before `end`, where it was read as a name and is near to what could have stood there."""
    before = source.text[max(0, end - _LONGEST_WORD) : end].rstrip()
    word = before[len(before.rstrip(_WORD_CHARACTERS)) :]
    helps: tuple[str, ...] = ()
    if expected == {"LBRACE"}:
        helps = did_you_mean(word, ("select", "except", "expect"))
    elif expected == {"LIMIT"}:
        helps = tuple(f"the unit is written `{unit}`" for unit in UNITS if unit.lower() == word.lower())
    if not helps:
        return None
    at = source.text.rindex(word, 0, end)
    return Diagnostic("E0001", f"unexpected `{word}`", Span(source, at, at + len(word)), helps=helps)


def _expected(error: UnexpectedInput) -> set[str]:
    """Names of the terminals that could have stood there; empty where Lark does not know them exactly."""
    if isinstance(error, UnexpectedToken):
        return set(error.accepts or error.expected)
    assert isinstance(error, UnexpectedCharacters)
    return set()


def _is_first_on_line(source: Source, start: int) -> bool:
    line_start = source.text.rfind("\n", 0, start) + 1
    return not source.text[line_start:start].strip()


def _keywords(terminals: Iterable[str]) -> list[str]:
    return [word for name in terminals if (word := _literal(name)) and word.isalpha()]


def _literal(terminal: str) -> str:
    """The text of a terminal that always reads the same, such as `{` or `let`; else nothing."""
    definition = next((t for t in lalr().terminals if t.name == terminal), None)
    text = definition.pattern.value.removesuffix(WORD_END) if definition else ""
    return str(text) if definition and (isinstance(definition.pattern, PatternStr) or text.isalpha()) else ""


def _expected_help(expected: set[str]) -> str:
    words = []
    if {"LET", "TARGET"} <= expected:
        expected = expected - {word.upper() for word in STATEMENTS} - {"$END"}
        words.append("a new statement")
    if {"NUMBER", "TEXT", "NAME"} <= expected:
        expected = expected - _VALUE
        words.append("a value")
    elif {"NAME", "LPAR"} <= expected:
        expected = expected - _SET
        words.append('a set of modules such as `path("blocks.*")`')
    if "VBAR" in expected:
        expected = expected - {"VBAR", "AMPERSAND", "MINUS"}
        words.append("`|`, `&` or `-`")
    words = sorted(_WORDS.get(name) or f"`{_literal(name)}`" for name in expected if name != "$END") + words[::-1]
    return "expected " + " or ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)
