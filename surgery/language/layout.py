"""The lines of one statement."""

from __future__ import annotations

import re

from surgery.language.tokens import CLOSERS, OPENERS, Piece

WIDTH = 120
_PARTS = {"SELECT", "EXCEPT", "EXPECT", "IGNORE"}
_CLAUSES = {"BECAUSE", "EXPECT"}
_OPERANDS = {"NAME", "NUMBER", "SIZE", "SHARE", "TEXT", "TRUE", "FALSE", "NONE", "REFERENCE", "RPAR", "RSQB"}
_CALLED = {"NAME", "JSON", "COUNT", "WHERE"}
_JOINED = {"LBRACE", "COMMA", "EQUAL", "COLON"}
_SIZE = re.compile(r"([0-9.]+)[ \t]*([A-Za-z]+)")


class Layout:
    """One statement, with the blocks whose `{` is in `opened` (indices of its pieces) on several lines.

    `lines` is the result. `too_long` holds the blocks to open because a line is too long with them closed.
    """

    def __init__(self, statement: list[Piece], opened: frozenset[int]) -> None:
        self.pieces = statement
        self.opened = opened
        self.brackets: list[int] = []  # the open ones, by the index of their piece
        self.lines: list[str] = []
        self.joints: list[list[tuple[int, int]]] = []  # per line: columns where it may be cut, and the indent then
        self.closed: list[list[int]] = []  # per line: outermost blocks that stand closed on it
        self.must_break = True
        for index in range(len(statement)):
            self._place(index)
        self.too_long: set[int] = set()
        self._fold()

    def _place(self, index: int) -> None:
        piece = self.pieces[index]
        may_space = (index == 0 or self._starts_item(index) or piece.type == "RBRACE") and self._before(
            index
        ) != "LBRACE"
        indent = self._indent(index)
        for comment in piece.comments:
            inside = 2 * len(self.brackets) if piece.type in CLOSERS else indent
            self._new_line(inside, comment.breaks > 1 and may_space)
            self.lines[-1] += comment.text
            may_space = index == 0 or self._starts_item(index) or piece.type == "RBRACE"
            self.must_break = True
        opener = self.brackets.pop() if piece.type in CLOSERS else None
        if self.must_break or opener in self.opened or self._breaks_before(index):
            self._new_line(indent, piece.breaks > 1 and may_space and opener is None)
        else:
            self._join(index)
        self.lines[-1] += _shown(piece)
        if piece.type in OPENERS:
            if piece.type == "LBRACE" and index not in self.opened and not self._is_in_closed():
                self.closed[-1].append(index)
            self.brackets.append(index)
        self.must_break = index in self.opened or bool(piece.trailing)
        if piece.trailing:
            self.lines[-1] += "  " + piece.trailing

    def _new_line(self, indent: int, blank: bool) -> None:
        for line in ["", " " * indent] if blank else [" " * indent]:
            self.lines.append(line)
            self.joints.append([])
            self.closed.append([])

    def _join(self, index: int) -> None:
        """Go on with the line: with a joint, if it may be cut here."""
        is_joint = self._starts_item(index) or self._is_clause(index)
        if is_joint and not self._is_in_closed() and self._before(index) != "LBRACE":
            self.joints[-1].append((len(self.lines[-1]), self._indent(index)))
        self.lines[-1] += self._space(index)

    def _fold(self) -> None:
        """Cut lines that are too long at their joints; note the closed blocks of those that still are."""
        folded: list[str] = []
        for line, joints, closed in zip(self.lines, self.joints, self.closed, strict=True):
            parts = _cut(line, joints)
            if closed and any(len(part) > WIDTH for part in parts):
                self.too_long.update(closed)
            folded.extend(parts)
        self.lines = folded

    # --- what a piece is

    def _before(self, index: int) -> str:
        return self.pieces[index - 1].type if index else ""

    def _after(self, index: int) -> str:
        return self.pieces[index + 1].type if index + 1 < len(self.pieces) else ""

    def _is_in_braces(self) -> bool:
        return bool(self.brackets) and self.pieces[self.brackets[-1]].type == "LBRACE"

    def _is_in_closed(self) -> bool:
        return any(self.pieces[at].type == "LBRACE" and at not in self.opened for at in self.brackets)

    def _starts_item(self, index: int) -> bool:
        """Whether a setting, a limit or a part of a body starts here."""
        if not self._is_in_braces():
            return False
        type, after = self.pieces[index].type, self._after(index)
        is_rename = type == "TEXT" and after == "ARROW"
        return type in _PARTS or type == "KEY" or (type == "NAME" and after in ("LIMIT", "LBRACE")) or is_rename

    def _is_part(self, index: int) -> bool:
        """Whether a part of a body starts here: each has a line of its own in an opened one."""
        is_part = self.pieces[index].type in _PARTS or self._after(index) in ("LBRACE", "ARROW")
        return self._starts_item(index) and is_part

    def _is_clause(self, index: int) -> bool:
        type = self.pieces[index].type
        return type == "BECAUSE" or (type in _CLAUSES and not self.brackets)

    # --- where it goes

    def _indent(self, index: int) -> int:
        if index == 0:
            return 0
        if self.pieces[index].type in CLOSERS:
            return 2 * (len(self.brackets) - 1)
        goes_on = not self._starts_item(index) and (not self.brackets or self._is_in_braces())
        return 2 * len(self.brackets) + (2 if goes_on else 0)

    def _breaks_before(self, index: int) -> bool:
        piece = self.pieces[index]
        if piece.type in _JOINED or (piece.type in ("LPAR", "LSQB") and self._before(index) in _CALLED):
            return False
        return bool(piece.breaks) or (self._is_part(index) and not self._is_in_closed())

    def _space(self, index: int) -> str:
        """The space between a piece and the one before it on its line."""
        before, type = self.pieces[index - 1], self.pieces[index].type
        if type in ("RPAR", "RSQB", "COMMA", "COLON") or before.type in ("LPAR", "LSQB"):
            return ""
        if before.type == "LBRACE":
            return "" if type == "RBRACE" else " "
        if (type == "LPAR" and before.type in _CALLED) or (type == "LSQB" and before.type == "NAME"):
            return ""
        if ".." in (before.text, self.pieces[index].text):
            return ""
        if before.type == "MINUS" and (index < 2 or self.pieces[index - 2].type not in _OPERANDS):
            return ""
        return "  " if self._starts_item(index) or self._is_clause(index) else " "


def _cut(line: str, joints: list[tuple[int, int]]) -> list[str]:
    """A line in parts that fit, where its joints allow it."""
    parts: list[str] = []
    start, lead = 0, ""
    for at, (joint, indent) in enumerate(joints):
        end = joints[at + 1][0] if at + 1 < len(joints) else len(line)
        if len(lead) + end - start > WIDTH and joint > start:
            parts.append(lead + line[start:joint])
            lead = " " * indent
            start = joint + len(line[joint:]) - len(line[joint:].lstrip())
    return [*parts, lead + line[start:]]


def _shown(piece: Piece) -> str:
    """A token in its one spelling."""
    if piece.type == "SIZE":
        return _SIZE.sub(r"\1 \2", piece.text)
    return "".join(piece.text.split()) if piece.type == "SHARE" else piece.text
