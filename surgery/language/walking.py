"""Every node of a syntax tree, whatever its sort."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from typing import Any

from surgery.diagnostics import Span


def children(node: Any) -> Iterator[Any]:
    """The nodes directly below one, in the order of the text's parts."""
    for field in fields(node):
        value = getattr(node, field.name)
        for item in value if isinstance(value, tuple) else (value,):
            if is_dataclass(item) and not isinstance(item, Span):
                yield item


def walk(node: Any) -> Iterator[Any]:
    """A node and all nodes below it, parents first."""
    pending = [node]
    while pending:
        node = pending.pop()
        yield node
        pending.extend(reversed(list(children(node))))
