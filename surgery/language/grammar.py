"""The grammar, `grammar/surg.lark`, and the LALR parser made from it."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from lark import Lark
from lark.lexer import PatternRE, PatternStr, TerminalDef

STATEMENTS = (
    "param",
    "graph",
    "model",
    "inputs",
    "weights",
    "let",
    "never",
    "exclude",
    "assume",
    "target",
    "train",
    "checkpoint",
    "budget",
)

WORD_END = r"\b"


def grammar_text() -> str:
    """The grammar: the copy inside an installed package, else the one at the top of the checkout."""
    package = Path(__file__).parents[1]  # not importlib.resources, which takes longer to import than this to read
    packaged = package / "grammar" / "surg.lark"
    checked_out = package.parent / "grammar" / "surg.lark"
    return (packaged if packaged.is_file() else checked_out).read_text(encoding="utf-8")


@lru_cache(maxsize=1)
def lalr() -> Lark:
    """The parser of whole files. Building its tables takes about 60 ms, so it is built once, when first used."""
    return Lark(
        grammar_text(),
        parser="lalr",
        lexer="contextual",
        propagate_positions=True,
        maybe_placeholders=True,
        edit_terminals=_whole_word,
    )


def _whole_word(terminal: TerminalDef) -> None:
    """Makes a keyword match as a word of its own: else `lettuce` would be read as `let tuce`."""
    if isinstance(terminal.pattern, PatternStr) and terminal.pattern.value.isalpha():
        terminal.pattern = PatternRE(terminal.pattern.value + WORD_END)
        terminal.priority = 1  # above NAME, as strings are above regular expressions
