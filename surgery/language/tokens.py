"""A parsed text as tokens, with the comments and line breaks that stand between them."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from surgery.diagnostics import Source
from surgery.language.grammar import lalr

OPENERS = ("LBRACE", "LPAR", "LSQB")
CLOSERS = ("RBRACE", "RPAR", "RSQB")
_BREAK_OR_COMMENT = re.compile(r"\n|#[^\n]*")


@dataclass
class Comment:
    """A comment on a line of its own, and how many line breaks stand before it."""

    text: str
    breaks: int


@dataclass
class Piece:
    """A token, by the grammar's name for it, with what stands around it.

    `comments` stand on lines before it, `breaks` counts the line breaks between these and it, `trailing` is the
    comment that follows it on its line.
    """

    type: str
    text: str
    breaks: int = 0
    comments: list[Comment] = field(default_factory=list)
    trailing: str = ""

    @property
    def starts_line(self) -> bool:
        """Whether the author began a line with it."""
        return self.breaks > 0 or bool(self.comments)


def pieces(source: Source) -> list[Piece]:
    """The tokens of a text that parses, and an empty last one (`END`) for what follows them."""
    found: list[Piece] = []
    end = 0
    for token in lalr().parse_interactive(source.text).iter_parse():
        assert token.start_pos is not None
        assert token.end_pos is not None
        _add(found, Piece(token.type, str(token)), source.text[end : token.start_pos])
        end = token.end_pos
    _add(found, Piece("END", ""), source.text[end:])
    return _without_commas(found)


def _add(found: list[Piece], piece: Piece, between: str) -> None:
    """Append a piece, with the comments and breaks of the text `between` it and the last one."""
    for mark in _BREAK_OR_COMMENT.findall(between):
        if mark == "\n":
            piece.breaks += 1
        elif found and not piece.starts_line:
            found[-1].trailing = mark.rstrip()
        else:
            piece.comments.append(Comment(mark.rstrip(), piece.breaks))
            piece.breaks = 0
    found.append(piece)


def _without_commas(found: list[Piece]) -> list[Piece]:
    """Pieces less the commas that mean nothing: those between settings, and those before a closing bracket."""
    kept: list[Piece] = []
    opened: list[str] = []
    for piece, following in zip(found, [*found[1:], found[-1]], strict=True):
        if piece.type in OPENERS:
            opened.append(piece.type)
        elif piece.type in CLOSERS:
            opened.pop()
        between_settings = opened[-1:] == ["LBRACE"] and following.type != "TEXT"
        if piece.type == "COMMA" and (between_settings or following.type in CLOSERS):
            _give_way(piece, kept[-1], following)
        else:
            kept.append(piece)
    return kept


def _give_way(comma: Piece, before: Piece, after: Piece) -> None:
    """Hand what stands around a comma to its neighbours."""
    comments = comma.comments
    if comma.trailing and before.trailing:
        comments = [*comments, Comment(comma.trailing, 1)]
    else:
        before.trailing = before.trailing or comma.trailing
    if after.comments and not comments:
        after.comments[0].breaks += comma.breaks
    elif not comments:
        after.breaks += comma.breaks
    after.comments[:0] = comments
