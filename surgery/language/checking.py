"""Checks of a parsed spec, in order. Each adds what it finds and lets the next go on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from surgery.diagnostics import Diagnostic, Diagnostics, SurgeryError
from surgery.language import tree
from surgery.language.globs import parse_glob
from surgery.language.key_patterns import parse_key_pattern, parse_rename
from surgery.language.names import check_names
from surgery.language.settings import check_settings
from surgery.language.types import check_types
from surgery.language.walking import walk


def check(spec: tree.Spec, params: Mapping[str, Any], folder: Path, found: Diagnostics) -> None:
    """Names, types, settings and globs of a spec whose params have these values."""
    check_names(spec, found)
    check_types(spec, found)
    check_settings(spec, params, folder, found)
    check_globs(spec, found)


def check_globs(spec: tree.Spec, found: Diagnostics) -> None:
    """E0009 for every malformed glob."""
    for node in walk(spec):
        match node:
            case tree.Paths() | tree.Parameters():
                for text in node.globs:
                    found.extend(_errors(parse_glob, text.value, text.span))
            case tree.Ignore():
                for text in node.keys:
                    found.extend(_errors(parse_key_pattern, text))
            case tree.Rename():
                found.extend(_errors(parse_rename, node))


def _errors(parse: Callable[..., object], *given: object) -> tuple[Diagnostic, ...]:
    try:
        parse(*given)
    except SurgeryError as error:
        return error.diagnostics
    return ()
