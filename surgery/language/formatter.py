"""One layout for every `.surg` file. Comments, and line breaks that the author chose, stay."""

from __future__ import annotations

from collections.abc import Iterator

from surgery.diagnostics import Source
from surgery.language.grammar import STATEMENTS
from surgery.language.layout import Layout
from surgery.language.parser import parse
from surgery.language.tokens import CLOSERS, OPENERS, Piece, pieces

_STARTS = {"SURG", "END", *(word.upper() for word in STATEMENTS)}


def format_text(source: Source) -> str:
    """The text in its one layout; it parses to the same tree. Raises SurgeryError if it has syntax errors.

    Statements stand on lines of their own, with at most one empty line between them; what is in braces is
    indented by two, unless it fits on one line and was written so; line breaks between settings stay, and
    lines of settings are wrapped at 120 characters.
    """
    parse(source)
    return lay_out(source)


def lay_out(source: Source) -> str:
    """`format_text` of a text that is known to parse."""
    lines = [line for statement in _statements(pieces(source)) for line in _lines(statement)]
    return "\n".join(lines).strip() + "\n"


def _statements(found: list[Piece]) -> Iterator[list[Piece]]:
    statement: list[Piece] = []
    depth = 0
    for piece in found:
        if piece.type in _STARTS and depth == 0 and statement:
            yield statement
            statement = []
        depth += (piece.type in OPENERS) - (piece.type in CLOSERS)
        statement.append(piece)
    yield statement


def _lines(statement: list[Piece]) -> list[str]:
    """The lines of a statement. A block written on one line is opened where that line gets too long."""
    opened = _opened_by_author(statement)
    while True:
        layout = Layout(statement, frozenset(opened))
        if not layout.too_long:
            return layout.lines
        opened |= layout.too_long


def _opened_by_author(statement: list[Piece]) -> set[int]:
    """Indices of the `{` of a target's body, and of those with a line break or a comment before their `}`."""
    opened: set[int] = set()
    inside: list[int] = []
    for index, piece in enumerate(statement):
        if piece.starts_line:
            opened.update(inside)
        if piece.type == "LBRACE":
            inside.append(index)
            if statement[0].type == "TARGET" and len(inside) == 1:
                opened.add(index)
        elif piece.type == "RBRACE":
            inside.pop()
        if piece.trailing:
            opened.update(inside)
    return opened
