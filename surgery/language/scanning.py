"""What can be said of a text before it is parsed: edition, strings, brackets, and where statements start."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from surgery.diagnostics import Diagnostic, Diagnostics, Label, Source, Span
from surgery.language.grammar import STATEMENTS

EDITIONS = ("1",)
RESERVED_STATEMENTS = ("use", "serve")
MOST_ERRORS = 20
DEEPEST_TREE = 150
_DEEPEST_BRACKETS = 64
_CLOSER = {"(": ")", "[": "]", "{": "}"}
_EDITION = re.compile(r"(?:\s|#[^\n]*)*(surg\b[ \t]*([^\s#]*))?")
_LANDMARK = re.compile(
    r'(?P<string>"(?:\\.|[^"\\\n])*")|(?P<comment>#[^\n]*)|(?P<bracket>[()\[\]{}])|(?P<quote>"[^\n]*)'
    rf"|^[ \t]*(?P<statement>(?:{'|'.join(STATEMENTS + RESERVED_STATEMENTS)})\b)"
    # An unindented word before another word looks like a statement whose keyword is mistyped.
    r"|^(?P<mistyped>(?!surg\b|expect\b|because\b|when\b|overrides\b|and\b|or\b|not\b)[A-Za-z]\w*(?=[ \t]+[\w{\"]))",
    re.MULTILINE,
)


def in_order(found: Iterable[Diagnostic]) -> Diagnostics:
    """The same diagnostics in the order of the file."""
    return Diagnostics(sorted(found, key=lambda diagnostic: diagnostic.span.start if diagnostic.span else -1))


def check_edition(source: Source) -> Diagnostic | None:
    """The first statement has to be `surg 1`."""
    found = _EDITION.match(source.text)
    assert found
    if found.end() == len(source.text) and not found[1]:
        return Diagnostic(
            "E0003", "the file is empty", Span(source, 0, 0), helps=("start it with the edition line: `surg 1`",)
        )
    if not found[1] or not found[2]:
        start = found.start(1) if found[1] else found.end()
        end = min(start + 1, len(source.text)) if not found[1] else found.end(1)
        return Diagnostic(
            "E0003",
            "the edition line is missing" if not found[1] else "the edition line has no number",
            Span(source, start, end),
            helps=("start the file with `surg 1`",),
        )
    if found[2] not in EDITIONS:
        return Diagnostic(
            "E0004",
            f"edition `{found[2]}` is not known to this version",
            Span(source, *found.span(2)),
            helps=("write `surg 1`, or install the version of model-surgery that this file was written for",),
        )
    return None


def edition_end(source: Source) -> int:
    """Where the edition line's number ends."""
    found = _EDITION.match(source.text)
    assert found
    return found.end()


def check_brackets(source: Source) -> Diagnostics:
    """Every string ends on its line; every bracket has its partner; none nests absurdly deep."""
    strings, brackets = Diagnostics(), Diagnostics()
    opened: list[tuple[str, int]] = []
    for mark in _LANDMARK.finditer(source.text):
        if mark["quote"]:
            strings.add(_unterminated(source, mark))
        elif mark["bracket"] in _CLOSER:
            opened.append((mark["bracket"], mark.start()))
            if len(opened) > _DEEPEST_BRACKETS:
                return Diagnostics([_too_deep(source, mark.start())])
        elif mark["bracket"]:
            _close(source, mark["bracket"], mark.start(), opened, brackets)
        if len(strings) + len(brackets) >= MOST_ERRORS:
            break
    else:
        for bracket, at in opened:
            brackets.add(_never_closed(source, bracket, at))
    # A string without its end swallows brackets: then theirs are no errors of their own.
    return strings if len(strings) else in_order(brackets)


def _too_deep(source: Source, at: int) -> Diagnostic:
    return Diagnostic(
        "E0008",
        f"brackets nest more than {_DEEPEST_BRACKETS} deep",
        Span(source, at, at + 1),
        helps=("name parts of the expression with `let`",),
    )


def _close(source: Source, closer: str, at: int, opened: list[tuple[str, int]], found: Diagnostics) -> None:
    """Pop the partner of `closer`, reporting what stands open in between, or that it has none."""
    span = Span(source, at, at + 1)
    if not opened:
        found.add(Diagnostic("E0006", f"this `{closer}` closes nothing", span, helps=("remove it",)))
        return
    if all(_CLOSER[bracket] != closer for bracket, _ in opened):
        bracket, start = opened.pop()
        label = Label(Span(source, start, start + 1), "opened here")
        message = f"this `{closer}` cannot close a `{bracket}`"
        found.add(Diagnostic("E0006", message, span, labels=(label,), helps=(f"write `{_CLOSER[bracket]}`",)))
        return
    while _CLOSER[opened[-1][0]] != closer:
        found.add(_never_closed(source, *opened.pop()))
    opened.pop()


def _never_closed(source: Source, bracket: str, at: int) -> Diagnostic:
    return Diagnostic(
        "E0006",
        f"this `{bracket}` is never closed",
        Span(source, at, at + 1),
        helps=(f"add the `{_CLOSER[bracket]}` it needs",),
    )


def _unterminated(source: Source, mark: re.Match[str]) -> Diagnostic:
    text = mark["quote"].rstrip()
    return Diagnostic(
        "E0005",
        "this string is not closed on its line",
        Span(source, mark.start(), mark.start() + max(1, len(text))),
        helps=('close it with `"`; a quote inside a string is written `\\"`',),
    )


def chunks(text: str) -> Iterator[tuple[int, int]]:
    """Ranges of a text with balanced brackets that each start with a statement's keyword at the start of a line.

    The edition line may be among them.
    """
    depth = 0
    start: int | None = None
    for mark in _LANDMARK.finditer(text):
        if mark["bracket"]:
            depth += 1 if mark["bracket"] in _CLOSER else -1
        elif depth == 0 and (name := mark.lastgroup) in ("statement", "mistyped"):
            if start is not None:
                yield start, mark.start()
            start = mark.start(name)
    if start is not None:
        yield start, len(text)
