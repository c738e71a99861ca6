"""What the evidence of a graph cites: lines of the model's source, as text."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from importlib import import_module
from pathlib import Path

from mutations.package import source_file
from surgery.graph import Graph, Module

Sources = Mapping[str, list[str]]  # `package/file` -> its lines, stripped

_PLACE = re.compile(r"([\w/]+)\.py:(\d+)")


def sources(modules: tuple[str, ...], folder: Path | None = None) -> Sources:
    """The lines of modules as they are installed, or as they were changed in a folder."""
    files = {
        name: source_file(name, folder) if folder else Path(import_module(name).__file__ or "") for name in modules
    }
    return {
        name.replace(".", "/"): [line.strip() for line in file.read_text(encoding="utf-8").splitlines()]
        for name, file in files.items()
    }


def evidence_of(module: Module, fact: str) -> str:
    """Why a fact of a module is what it is."""
    of, _, name = fact.partition(" ")
    if of == "init":
        return module.init[name].place or ""
    if of == "role":
        return module.roles.get(name) or module.unknown_roles[name]
    return str(getattr(module, of).evidence)


def cited(evidence: str, known: Sources) -> list[tuple[str, str]]:
    """The lines of `known` that evidence points at: file and text."""
    return [(name, known[name][int(line) - 1]) for name, line in _PLACE.findall(evidence) if name in known]


def out_of_date(before: Graph, after: Graph, installed: Sources, changed: Sources) -> Iterator[str]:
    """Evidence that says the same after a change of the source, but cites another line, by its text.

    It may cite a line that the change made, or no longer one that it took away; tied modules may cite each other's.
    """
    for path in before.modules.keys() & after.modules.keys():
        was, now = before[path], after[path]
        for fact in _facts(was) & _facts(now) if was.tied == now.tied else ():
            old, new = evidence_of(was, fact), evidence_of(now, fact)
            if _PLACE.sub("", old) == _PLACE.sub("", new):
                for (file, line), (_, other) in zip(cited(old, installed), cited(new, changed), strict=False):
                    if line != other and line in changed[file] and other in installed[file]:
                        yield f"{fact} of {path}: {old} -> {new}"


def _facts(module: Module) -> set[str]:
    parameters = {f"init {parameter.name}" for parameter in module.parameters}
    return {"unreached", "bypassed", "gradient", *(f"role {role}" for role in module.roles), *parameters}
