"""The data: functions of the running Python's standard library, each with the first line of its docstring.

Read from the sources with `ast`; nothing is imported. Train and test come from different modules, and a summary or a
code that occurs twice is left out, so that no answer is ambiguous and none was seen in training.
"""

from __future__ import annotations

import ast
import hashlib
import re
import sys
import sysconfig
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

_SKIPPED_FOLDERS = {"test", "tests", "idle_test", "idlelib", "lib2to3", "site-packages"}
_LONGEST_CODE = 1000  # characters; the encoder reads far fewer
_FEWEST_WORDS = 3
_TEST_SHARE = 4  # one family of modules in so many is held out

_Definition = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Function:
    """A function or method: the question is its `summary`, the answer its `code` without docstring and comments."""

    module: str
    name: str
    summary: str
    code: str

    @property
    def family(self) -> str:
        """The top-level module, `decimal` and its Python version `_pydecimal` being one."""
        return re.sub(r"^_(py)?", "", self.module.split(".")[0])

    @property
    def is_test(self) -> bool:
        """Whether its family is held out: decided by a hash of the name, so it is the same on every machine."""
        return hashlib.sha256(self.family.encode()).digest()[0] % _TEST_SHARE == 0


def standard_library() -> list[Function]:
    """Every function whose summary and code are its own, in order of module and line."""
    found = [function for path, module in _sources() for function in _functions(path, module)]
    summaries = Counter(function.summary.lower() for function in found)
    codes = Counter(function.code for function in found)
    return [f for f in found if summaries[f.summary.lower()] == 1 and codes[f.code] == 1]


def split(functions: Sequence[Function]) -> tuple[list[Function], list[Function]]:
    """Train and test functions, from different families of modules."""
    return [f for f in functions if not f.is_test], [f for f in functions if f.is_test]


def _sources() -> Iterator[tuple[Path, str]]:
    root = Path(sysconfig.get_path("stdlib"))
    for top in sorted(sys.stdlib_module_names):
        for path in [root / f"{top}.py", *sorted((root / top).rglob("*.py"))]:
            parts = path.relative_to(root).with_suffix("").parts
            if path.is_file() and not _SKIPPED_FOLDERS.intersection(parts):
                yield path, ".".join(part for part in parts if part != "__init__")


def _functions(path: Path, module: str) -> Iterator[Function]:
    for scope, node in _definitions(ast.parse(path.read_bytes()), ()):
        lines = (ast.get_docstring(node) or "").splitlines()
        summary = " ".join(lines[0].split()) if lines else ""
        if len(summary.split()) >= _FEWEST_WORDS:
            name = ".".join([*scope, node.name])
            yield Function(module, name, summary, _code(name, node))


def _code(name: str, node: _Definition) -> str:
    """Qualified name, arguments and body; the docstring is the body's first statement."""
    code = f"{name}({ast.unparse(node.args)})"
    for statement in node.body[1:]:
        if len(code) > _LONGEST_CODE:
            break
        code += "\n" + ast.unparse(statement)
    return code[:_LONGEST_CODE]


def _definitions(parent: ast.AST, scope: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], _Definition]]:
    """The functions of a module and the methods of its classes; functions inside functions are left out."""
    for node in ast.iter_child_nodes(parent):
        if isinstance(node, ast.ClassDef):
            yield from _definitions(node, (*scope, node.name))
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield scope, node
