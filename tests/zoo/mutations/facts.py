"""The facts of a graph as a flat table, and what a mutation says of two such tables."""

from __future__ import annotations

import re
from collections.abc import Iterable

from mutations.case import Mutation
from surgery.graph import ROLES, Graph, Module

Table = dict[tuple[str, str], str]  # (module path, fact) -> answer; what is not there is "no"


def table_of(graph: Graph) -> Table:
    """Every fact of every module but those that are no."""
    return {(path, fact): answer for path, module in graph.modules.items() for fact, answer in _facts(module).items()}


def _facts(module: Module) -> dict[str, str]:
    found = {
        "kind": module.kind,
        "calls": str(module.calls),
        "unreached": module.unreached.answer,
        "bypassed": module.bypassed.answer,
        "gradient": module.gradient.answer,
        "tied": " ".join(module.tied) or "no",
        "block": f"{module.block.family} {module.block.index}" if module.block else "no",
    }
    for role in ROLES:
        found[f"role {role}"] = "yes" if role in module.roles else "unknown" if role in module.unknown_roles else "no"
    for parameter in module.parameters:
        found[f"init {parameter.name}"] = parameter.init.value
        found[f"shape {parameter.name}"] = "x".join(map(str, parameter.shape))
    return {fact: answer for fact, answer in found.items() if answer != "no" or fact == "gradient"}


def expected_table(before: Table, mutation: Mutation) -> Table:
    """What the facts have to be after a mutation: those before it with the stated changes, and no others."""
    table = {(_renamed(path, mutation.renamed), fact): answer for (path, fact), answer in before.items()}
    paths = {path for path, _ in table}
    for pattern in mutation.removed:
        gone = matching(pattern, paths)
        table = {key: answer for key, answer in table.items() if key[0] not in gone}
    for pattern, changes in mutation.changes.items():
        for path in matching(pattern, paths):
            for fact, (was, now) in changes.items():
                found = table.pop((path, fact), "no")
                assert found == was != now, f"before, {fact} of {path} was {found}"
                if now != "no" or fact == "gradient":
                    table[path, fact] = now
    for path, facts in mutation.added.items():
        assert path not in paths
        table.update({(path, fact): answer for fact, answer in facts.items()})
    return table


def _renamed(path: str, names: tuple[str, str] | None) -> str:
    """`path` with a run of its segments under another name."""
    if names is None:
        return path
    return f".{path}.".replace(f".{names[0]}.", f".{names[1]}.").strip(".")


def matching(pattern: str, paths: Iterable[str]) -> set[str]:
    """The paths that a pattern stands for: `*` is a segment, `**` any number of them, `{a,b}` one of several."""
    expression = re.escape(pattern).replace(r"\*\*", r".+").replace(r"\*", r"[^.]+")
    expression = re.sub(r"\\\{(.*?)\\\}", lambda found: f"(?:{found[1].replace(',', '|')})", expression)
    found = {path for path in paths if re.fullmatch(expression, path)}
    assert found, f"`{pattern}` matches nothing"
    return found
