"""Patterns over the keys of a checkpoint: `"ema_model.transformer.**" -> "**"`.

They are globs of names, `*` and `**` only, so that what each `*` and `**` stood for is known and can be written
into another pattern. A key is read as segments between dots, as a module's path is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

from surgery.diagnostics import Diagnostic, Span, SurgeryError
from surgery.language import tree
from surgery.language.globs import Alternatives, AnyDepth, Literal, Segment, Slice, Wildcard, parse_glob

Stars: TypeAlias = "tuple[str, ...]"  # what each `**` (names joined by dots, or none) and each `*` stands for


@dataclass(frozen=True)
class KeyPattern:
    """A parsed pattern."""

    segments: tuple[Segment, ...]

    @property
    def stars(self) -> Stars:
        """Its own `*` and `**`, in order."""
        return tuple("**" if isinstance(s, AnyDepth) else "*" for s in self.segments if not isinstance(s, Literal))

    @property
    def start(self) -> str:
        """The names before the first star, joined by dots: every key that fits starts with them."""
        stars = (at for at, segment in enumerate(self.segments) if not isinstance(segment, Literal))
        return ".".join(map(str, self.segments[: next(stars, None)]))

    def match(self, key: str) -> Stars | None:
        """What the stars stand for in a key, or nothing where the key does not fit."""
        return _match(self.segments, key.split("."))

    def fill(self, stars: Stars) -> str:
        """The key that the pattern is with its stars replaced by what they stand for."""
        waiting = iter(stars)
        names: list[str] = []
        for segment in self.segments:
            if isinstance(segment, Wildcard):
                names.append(segment.pattern.replace("*", next(waiting)))
            else:
                names.append(next(waiting) if isinstance(segment, AnyDepth) else str(segment))
        return ".".join(filter(None, names))


def _match(segments: Sequence[Segment], names: Sequence[str]) -> Stars | None:
    if not segments:
        return None if names else ()
    segment, *rest = segments
    if isinstance(segment, AnyDepth):
        for end in range(len(names) + 1):
            if (stars := _match(rest, names[end:])) is not None:
                return (".".join(names[:end]), *stars)
        return None
    if not names or not (segment.fits(names[0]) if isinstance(segment, Wildcard) else str(segment) == names[0]):
        return None
    stars = _match(rest, names[1:])
    if stars is None or not isinstance(segment, Wildcard):
        return stars
    before, _, after = segment.pattern.partition("*")
    return (names[0][len(before) : len(names[0]) - len(after)], *stars)


def parse_key_pattern(text: tree.Text) -> KeyPattern:
    """The pattern that a string is. Raises SurgeryError (E0009)."""
    segments = parse_glob(text.value, text.span).segments
    if any(isinstance(segment, (Alternatives, Slice)) for segment in segments):
        raise _refused("the keys of a checkpoint are named with `*` and `**` only", text.span)
    return KeyPattern(segments)


@dataclass(frozen=True)
class KeyRename:
    """A parsed `"theirs" -> "ours"`."""

    theirs: KeyPattern
    ours: KeyPattern
    written: tree.Rename

    def of(self, key: str) -> str | None:
        """The model's name of a checkpoint's key; nothing where the key does not fit, or would have no name left."""
        stars = self.theirs.match(key)
        return (self.ours.fill(stars) or None) if stars is not None else None


def parse_rename(rename: tree.Rename) -> KeyRename:
    """Both sides of a renaming, which have the same stars in the same order. Raises SurgeryError (E0009)."""
    parsed = KeyRename(parse_key_pattern(rename.theirs), parse_key_pattern(rename.ours), rename)
    segments = parsed.theirs.segments
    if sum(isinstance(segment, AnyDepth) for segment in segments) > 1:
        raise _refused("with a second `**` it is not known where the first one ends", rename.theirs.span)
    if any(isinstance(segment, Wildcard) and segment.pattern.count("*") > 1 for segment in segments):
        raise _refused(
            "with a second `*` between two dots it is not known where the first one ends", rename.theirs.span
        )
    if parsed.theirs.stars != parsed.ours.stars:
        wanted = " and then ".join(f"`{star}`" for star in parsed.theirs.stars) or "no `*`"
        raise SurgeryError(
            Diagnostic(
                "E0009",
                "the two sides of `->` do not have the same `*` and `**`",
                rename.ours.span,
                label=f"has to have {wanted}",
                helps=("each `*` and `**` stands for what it stood for on the left, in order",),
            )
        )
    return parsed


def _refused(message: str, span: Span) -> SurgeryError:
    return SurgeryError(Diagnostic("E0009", message, span, helps=("write a pattern for each case",)))
