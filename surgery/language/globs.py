"""Globs over module paths, parsed: `path("blocks.[0:4].attn.{to_q,to_out.0}")`.

A path is read as segments between dots. A glob is a sequence of

- `Literal`: one segment with this very name;
- `Wildcard`: one segment that a pattern with `*` matches (`*` stands for any characters of it, none included);
- `AnyDepth`: any number of segments, none included (`**`);
- `Slice`: one numbered child (`0`, `1`, ...), chosen by its place among its numbered siblings as Python slices do;
- `Alternatives`: one of several sequences; each has to match something, or the author mistyped it.

`{q,k}_proj`, where braces make a part of a segment, is written out: `Alternatives` of `q_proj` and `k_proj`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import cached_property
from typing import NoReturn, TypeAlias

from surgery.diagnostics import Diagnostic, Span, SurgeryError

_DEEPEST_BRACES = 16
_MOST_ALTERNATIVES = 1024
_SLICE = re.compile(r"\[(-?\d{1,9})?(?:(:)(-?\d{1,9})?(?::(-?\d{1,9})?)?)?\]")
_WRONG_CHARACTER = re.compile(r"[^\w*-]")


@dataclass(frozen=True)
class Literal:
    """One segment with this name."""

    name: str

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True)
class Wildcard:
    """One segment that fits `pattern`, in which `*` stands for any characters. The pattern `*` fits every segment."""

    pattern: str

    def __str__(self) -> str:
        return self.pattern

    @cached_property
    def _regex(self) -> re.Pattern[str]:
        return re.compile(".*".join(re.escape(part) for part in self.pattern.split("*")), re.DOTALL)

    def fits(self, name: str) -> bool:
        """Whether one segment of a path fits the pattern."""
        return self._regex.fullmatch(name) is not None


@dataclass(frozen=True)
class AnyDepth:
    """`**`: any number of segments, none included."""

    def __str__(self) -> str:
        return "**"


@dataclass(frozen=True)
class Slice:
    """`[0:11]`, `[::2]`, `[-4:]`: numbered children, sorted by number, sliced as Python does.

    `[3]` is the slice of one child: start 3, stop 4 (`[-1]`: start -1, stop None).
    """

    start: int | None
    stop: int | None
    step: int | None

    def __str__(self) -> str:
        bounds = ["" if bound is None else str(bound) for bound in (self.start, self.stop)]
        return "[" + ":".join(bounds + ([str(self.step)] if self.step is not None else [])) + "]"

    @property
    def slice(self) -> slice:
        return slice(self.start, self.stop, self.step)


@dataclass(frozen=True)
class Alternatives:
    """`{a,b.0}`: one of several sequences of segments. `spans` says where each option stands."""

    options: tuple[tuple[Segment, ...], ...]
    spans: tuple[Span, ...] = field(default=(), compare=False, repr=False)

    def __str__(self) -> str:
        return "{" + ",".join(join(option) for option in self.options) + "}"


Segment: TypeAlias = "Literal | Wildcard | AnyDepth | Slice | Alternatives"


@dataclass(frozen=True)
class Glob:
    """A parsed glob: `text` as written, `span` of the string that holds it."""

    segments: tuple[Segment, ...]
    text: str
    span: Span = field(compare=False, repr=False)

    def __str__(self) -> str:
        return self.text


def join(segments: tuple[Segment, ...]) -> str:
    """Segments back as text."""
    return ".".join(map(str, segments))


def parse_glob(text: str, span: Span) -> Glob:
    """Parse a glob; `span` is that of the string token, quotes included. Raises SurgeryError (E0009)."""
    parser = _Parser(text, span)
    parser.check_braces()
    return Glob(parser.sequence(0, len(text)), text, span)


class _Parser:
    """Parses one glob. Positions are offsets into its text."""

    def __init__(self, text: str, span: Span) -> None:
        self.text = text
        self.span = span
        # A string with escapes is longer in the file than its value: then errors point at all of it.
        self.is_verbatim = span.end - span.start == len(text) + 2
        self.alternatives = 0

    def place(self, start: int, end: int) -> Span:
        if not self.is_verbatim:
            return self.span
        return Span(self.span.source, self.span.start + 1 + start, self.span.start + 1 + max(end, start + 1))

    def fail(self, message: str, help: str, start: int, end: int) -> NoReturn:
        raise SurgeryError(Diagnostic("E0009", message, self.place(start, end), helps=(help,)))

    def check_braces(self) -> None:
        opened: list[int] = []
        for at, char in enumerate(self.text):
            if char == "{":
                opened.append(at)
                if len(opened) > _DEEPEST_BRACES:
                    self.fail(
                        f"braces nest more than {_DEEPEST_BRACES} deep", "split this glob into several", at, at + 1
                    )
            elif char == "}":
                if not opened:
                    self.fail("this `}` closes nothing", "remove it, or add the `{` it belongs to", at, at + 1)
                opened.pop()
        if opened:
            self.fail("this `{` is never closed", 'close it, as in "**.{to_q,to_k}"', opened[-1], opened[-1] + 1)

    def split(self, separator: str, start: int, end: int) -> list[tuple[int, int]]:
        """The ranges between separators that stand outside braces."""
        ranges, depth, begin = [], 0, start
        for at in range(start, end):
            char = self.text[at]
            depth += (char == "{") - (char == "}")
            if char == separator and depth == 0:
                ranges.append((begin, at))
                begin = at + 1
        return [*ranges, (begin, end)]

    def sequence(self, start: int, end: int) -> tuple[Segment, ...]:
        return tuple(self.segment(*part) for part in self.split(".", start, end))

    def segment(self, start: int, end: int) -> Segment:
        text = self.text[start:end]
        if not text:
            self.fail(
                "a glob has an empty segment" if self.text else "a glob is empty",
                "write a name or `*` between the dots; `**` stands for any number of segments",
                start,
                end,
            )
        if "{" in text:
            return self.braces(start, end)
        if text.startswith("["):
            return self.slice(text, start, end)
        self.check_characters(text, start)
        if text == "**":
            return AnyDepth()
        if "**" in text:
            self.fail("`**` has to be a segment of its own", "write `**.name`, or `*` for a part", start, end)
        return Wildcard(text) if "*" in text else Literal(text)

    def check_characters(self, text: str, start: int) -> None:
        wrong = _WRONG_CHARACTER.search(text)
        if not wrong:
            return
        helps = {
            "[": "a slice is a segment of its own: `blocks.[0:4]`",
            "]": "a slice is a segment of its own: `blocks.[0:4]`",
            ",": 'commas stand inside braces, `{a,b}`; several globs are several strings: path("a", "b")',
            "?": "there is no `?`; `*` stands for any part of a name",
        }
        at = start + wrong.start()
        help = helps.get(wrong[0], "globs know names, `*`, `**`, `{a,b}` and `[0:4]`")
        shown = wrong[0] if wrong[0].isprintable() else ascii(wrong[0])[1:-1]
        self.fail(f"a glob cannot hold `{shown}` here", help, at, at + 1)

    def slice(self, text: str, start: int, end: int) -> Slice:
        found = _SLICE.fullmatch(text)
        if not found or text == "[]":
            self.fail(
                f"`{text}` is not a slice", "write `[3]`, `[0:11]`, `[::2]` or `[-4:]`, as a whole segment", start, end
            )
        first, is_range, stop, step = (found[group] for group in range(1, 5))
        if not is_range:
            return Slice(int(first), int(first) + 1 or None, None)
        if step and int(step) == 0:
            self.fail("a slice cannot have step 0", "the step is 1 or more: `[::2]`", start, end)
        return Slice(*(int(bound) if bound else None for bound in (first, stop, step)))

    def braces(self, start: int, end: int) -> Alternatives:
        """A segment with braces in it, written out as alternatives of the whole segment."""
        opening = self.text.index("{", start)
        closing, depth = opening, 1
        while depth:
            closing += 1
            depth += (self.text[closing] == "{") - (self.text[closing] == "}")
        options = self.split(",", opening + 1, closing)
        self.alternatives += len(options)
        if self.alternatives > _MOST_ALTERNATIVES:
            self.fail(
                f"a glob stands for more than {_MOST_ALTERNATIVES} alternatives", "split it into several", start, end
            )
        before, after = self.text[start:opening], self.text[closing + 1 : end]
        if not before and not after:
            sequences = [self.sequence(*option) for option in options]
        else:
            sequences = [self.written_out(before + self.text[slice(*option)] + after, start, end) for option in options]
        return Alternatives(tuple(sequences), tuple(self.place(*option) for option in options))

    def written_out(self, text: str, start: int, end: int) -> tuple[Segment, ...]:
        whole = self.place(start, end)
        inner = _Parser(text, whole)
        inner.is_verbatim = False
        inner.alternatives = self.alternatives
        sequence = inner.sequence(0, len(text))
        self.alternatives = inner.alternatives
        return sequence
