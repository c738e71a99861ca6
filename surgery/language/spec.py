"""A spec that was read, checked and given values for its params."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from surgery.diagnostics import Diagnostic, Source
from surgery.files import read_text
from surgery.language.checking import check
from surgery.language.formatter import lay_out
from surgery.language.overrides import param_values
from surgery.language.parser import parse
from surgery.language.scanning import in_order
from surgery.language.tree import Expression, Set, Spec
from surgery.language.values import Evaluator


@dataclass(frozen=True)
class LoadedSpec:
    """A `.surg` file without errors: its tree, and the values of its params with overrides applied.

    `diagnostics` holds what it was warned of.
    """

    tree: Spec
    path: Path
    source: Source
    params: dict[str, Any]
    diagnostics: tuple[Diagnostic, ...] = ()

    @property
    def graph_path(self) -> Path:
        """The graph file: what the `graph` statement names, taken from the spec's folder, else `NAME.graph.json`."""
        if self.tree.graph:
            return self.path.parent / self.tree.graph.path.value
        return self.path.with_name(f"{self.path.stem}.graph.json")

    @property
    def lock_path(self) -> Path:
        """The lock file, beside the spec: `NAME.surg.lock`."""
        return self.path.with_name(f"{self.path.stem}.surg.lock")

    @cached_property
    def fingerprint(self) -> str:
        """`sha256:...` over the formatted text and the values of the params."""
        content = lay_out(self.source) + json.dumps(self.params, sort_keys=True)
        return "sha256:" + hashlib.sha256(content.encode()).hexdigest()

    def evaluate(
        self,
        expression: Expression,
        count: Callable[[Set], int] | None = None,
        names: Mapping[str, Any] | None = None,
    ) -> Any:
        """The value of an expression of this spec, as `surgery.language.values.Evaluator` describes it.

        `count` gives the size of a set of modules. `names` adds values to those of the params: `where` is evaluated
        with a module's own numbers (`tree.WHERE_FIELDS`). Raises SurgeryError (E0101, E0105, E0501, E0002).
        """
        return Evaluator({**self.params, **(names or {})}, self.path.parent, count)(expression)


def load(path: Path | str, **overrides: Any) -> LoadedSpec:
    """Read and check a `.surg` file; `overrides` give params other values than their defaults.

    Raises SurgeryError: E0501 and E0002 if the file cannot be read; all its syntax errors (E00xx), if it has any;
    else all errors of its names and types (E01xx).
    """
    source = Source(str(path), read_text(path, what="spec"))
    return load_source(source, Path(path), overrides)


def load_source(source: Source, path: Path, overrides: Mapping[str, Any]) -> LoadedSpec:
    """`load` of a text that was read already; `path` is where it lies, for the files it names."""
    parsed, found = parse(source)
    params = param_values(parsed, overrides, path.parent, found)
    check(parsed, params, path.parent, found)
    found = in_order(found)
    found.raise_errors()
    return LoadedSpec(parsed, path, source, params, tuple(found))
