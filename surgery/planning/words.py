"""How plans and diagnostics put numbers, names and selectors into words."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from surgery.graph import Graph
from surgery.language import tree
from surgery.methods import METHODS


def counted(count: int, noun: str) -> str:
    """`1 module`, `1,024 modules`"""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def quantity(graph: Graph, paths: Sequence[str], being: str = "") -> str:
    """`2 modules`, `3 parameters`, or `2 modules and 3 parameters`; `being` says what they are: `2 idle modules`."""
    modules = sum(path in graph for path in paths)
    parameters = len(paths) - modules
    parts = [counted(modules, f"{being}module")] if modules or not parameters else []
    return " and ".join(parts + ([counted(parameters, f"{being}parameter")] if parameters else []))


def shown(path: str) -> str:
    """A module path for people: the model itself has none."""
    return path or "the model itself"


def some(paths: Sequence[str], most: int = 2) -> str:
    """The first few paths, and how many more there are."""
    names = ", ".join(shown(path) for path in paths[:most])
    return names + (f" and {len(paths) - most:,} more" if len(paths) > most else "")


def selector_text(node: tree.Set) -> str:
    """A selector as its author wrote it, on one line."""
    return " ".join(re.sub(r"#[^\n]*", "", node.span.text).split())


def bytes_text(count: float) -> str:
    """`17.3 MB` (MB = 10**6)"""
    for unit, size in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if count >= size:
            return f"{count / size:,.1f} {unit}"
    return f"{count:,.0f} bytes"


def share_text(share: float) -> str:
    """`1.28 %`"""
    return f"{share:.2%}".replace("%", " %")


def limit_text(value: float, unit: str) -> str:
    """A figure of a budget: a share, a number of bytes, or a count of parameters."""
    if unit == "share":
        return share_text(value)
    return bytes_text(value) if unit == "bytes" else f"{value:,.0f} parameters"


def value_text(value: Any) -> str:
    """A setting's or param's value as a `.surg` file writes it, large counts with commas."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return f"{value:,}"
    return "none" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def method_text(method: str, settings: Mapping[str, Any]) -> str:
    """A method with the settings that say something: its rank or other size always, others where not the default."""
    known = METHODS[method].settings if method in METHODS else ()
    sizes = [s.name for s in known[:1] if s.type in ("int", "count")]
    usual = {s.name: s.default for s in known if not s.per_site and s.name not in sizes}
    said = {name: value for name, value in settings.items() if name not in usual or value != usual[name]}
    return " ".join([method, *(f"{name}={value_text(value)}" for name, value in said.items())])


def scale_text(method: str, scale: float, end: str = "") -> str:
    """` scale 2` and `end`; nothing for a method that has no factor on its update."""
    return f" scale {scale:g}{end}" if method not in METHODS or METHODS[method].has_scale else ""
