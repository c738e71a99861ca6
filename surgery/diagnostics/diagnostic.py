"""What a phase of the compiler has to say, and how it says it stops."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from surgery.diagnostics.codes import CODES, Severity
from surgery.diagnostics.span import Span


@dataclass(frozen=True)
class Label:
    """A second place that a diagnostic points at, with a word on why."""

    span: Span
    text: str


@dataclass(frozen=True)
class Diagnostic:
    """One finding: a registered code, what is wrong, where, and what to do.

    `place` names a place that is no span of a `.surg` text: a file, or a byte of one.
    `label` is the word under the carets of `span`.
    """

    code: str
    message: str
    span: Span | None = None
    place: str | None = None
    label: str = ""
    labels: tuple[Label, ...] = ()
    notes: tuple[str, ...] = ()
    helps: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        assert self.code in CODES, f"unregistered diagnostic code {self.code}"

    @property
    def severity(self) -> Severity:
        return CODES[self.code].severity

    @property
    def is_error(self) -> bool:
        return self.severity == "error"

    def to_json(self) -> dict[str, Any]:
        return {
            "code": self.code,
            "severity": self.severity,
            "message": self.message,
            "span": self.span.to_json() if self.span else None,
            "place": self.span.place if self.span else self.place,
            "labels": [{"span": label.span.to_json(), "text": label.text} for label in self.labels],
            "notes": list(self.notes),
            "helps": list(self.helps),
        }


class Diagnostics:
    """Collects what a phase finds, so that all of it is shown at once."""

    def __init__(self, found: Iterable[Diagnostic] = ()) -> None:
        self._found: dict[Diagnostic, None] = dict.fromkeys(found)

    def add(self, diagnostic: Diagnostic) -> None:
        self._found.setdefault(diagnostic)

    def extend(self, diagnostics: Iterable[Diagnostic]) -> None:
        for diagnostic in diagnostics:
            self.add(diagnostic)

    def __iter__(self) -> Iterator[Diagnostic]:
        return iter(self._found)

    def __len__(self) -> int:
        return len(self._found)

    @property
    def has_errors(self) -> bool:
        return any(diagnostic.is_error for diagnostic in self._found)

    def raise_errors(self) -> None:
        """Raise `SurgeryError` with all that was found, if any of it is an error."""
        if self.has_errors:
            raise SurgeryError(self._found)


class SurgeryError(ValueError):
    """A request that cannot be carried out. `diagnostics` says why, each with a code and a way out."""

    def __init__(self, diagnostics: Diagnostic | Iterable[Diagnostic]) -> None:
        found = (diagnostics,) if isinstance(diagnostics, Diagnostic) else tuple(diagnostics)
        self.diagnostics: tuple[Diagnostic, ...] = found
        super().__init__(found)

    def __str__(self) -> str:
        from surgery.diagnostics.render import render

        return "\n" + render(self.diagnostics)
