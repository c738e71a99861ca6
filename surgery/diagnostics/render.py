"""Diagnostics as text for a terminal."""

from __future__ import annotations

from collections.abc import Iterable

from surgery.diagnostics.diagnostic import Diagnostic
from surgery.diagnostics.span import Span

_COLOURS = {"error": "\x1b[1;31m", "warning": "\x1b[1;33m"}
_DIM, _BOLD, _OFF = "\x1b[34m", "\x1b[1m", "\x1b[0m"
_WIDEST_LINE = 160


def render(diagnostics: Iterable[Diagnostic], *, colour: bool = False) -> str:
    """All diagnostics, in order, then a line that counts them."""
    found = list(diagnostics)
    blocks = [_render_one(diagnostic, colour) for diagnostic in found]
    counts = [
        f"{count} {severity}{'s' if count > 1 else ''}"
        for severity in ("error", "warning")
        if (count := sum(d.severity == severity for d in found))
    ]
    return "\n".join([*blocks, *([", ".join(counts)] if counts else [])]) + "\n"


def _render_one(diagnostic: Diagnostic, colour: bool) -> str:
    head = f"{diagnostic.severity}[{diagnostic.code}]"
    if colour:
        head = f"{_COLOURS[diagnostic.severity]}{head}{_OFF}{_BOLD}"
    lines = [f"{head}: {diagnostic.message}{_OFF if colour else ''}"]
    spans = [(label.span, label.text) for label in diagnostic.labels]
    gutter = 1
    if diagnostic.span:
        spans.append((diagnostic.span, diagnostic.label))
        gutter = max(len(str(span.line)) for span, _ in spans)
        lines.append(f"{' ' * gutter}--> {diagnostic.span.place}:{diagnostic.span.column}")
        lines.extend(_excerpt(diagnostic.span, spans, gutter))
    elif diagnostic.place:
        lines.append(f" --> {diagnostic.place}")
    pad = " " * gutter
    lines.extend(_hanging(f"{pad} = note: ", note) for note in diagnostic.notes)
    lines.extend(_hanging(f"{pad} = help: ", text) for text in diagnostic.helps)
    text = "\n".join(lines) + "\n"
    return text.replace(f"{pad} = ", f"{pad} {_DIM}={_OFF} ") if colour else text


def _hanging(lead: str, text: str) -> str:
    return lead + text.replace("\n", "\n" + " " * len(lead))


def _excerpt(main: Span, spans: list[tuple[Span, str]], gutter: int) -> list[str]:
    lines = [f"{' ' * gutter} |"]
    shown: tuple[int, int] | None = None
    for span, text in sorted(spans, key=lambda item: (item[0].source is not main.source, item[0].start)):
        if span.source is not main.source:
            lines.append(f"{' ' * gutter}::: {span.place}:{span.column}")
            shown = None
        source_line = span.source.line(span.line)
        # Of a line that is too long, the part around the place is shown, again for each place.
        first = max(0, min(span.column - _WIDEST_LINE // 2, len(source_line) - _WIDEST_LINE))
        if (span.line, first) != shown:
            lines.append(f"{span.line:>{gutter}} | {_clipped(source_line, first)}")
            shown = (span.line, first)
        mark = "^" if span is main else "-"
        start = span.column - 1
        # A span over several lines is underlined to the end of its first.
        width = max(1, min(span.end - span.start, len(source_line) - start, first + _WIDEST_LINE - start))
        lead = "".join("\t" if char == "\t" else " " for char in source_line[first:start])
        lines.append(f"{' ' * gutter} | {lead}{mark * width}{' ' + text if text else ''}")
    return lines


def _clipped(line: str, first: int) -> str:
    """What a terminal shows of a line from a column on, with `…` where something is left out."""
    part = line[first : first + _WIDEST_LINE]
    printable = "".join(char if char.isprintable() or char == "\t" else "\N{REPLACEMENT CHARACTER}" for char in part)
    left, right = first > 0, first + _WIDEST_LINE < len(line)
    return ("…" + printable[1:] if left else printable)[: -1 if right else None] + ("…" if right else "")
