"""The facts of a graph as JSON and as text."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any

from surgery.graph import Graph, Module, Parameter
from surgery.planning.grouping import group_paths

_RULE = {"unreached": "no", "bypassed": "no", "gradient": "yes"}  # what is so of most modules, and no news
_FACTS = tuple(_RULE)


def facts_json(graph: Graph, paths: Iterable[str]) -> str:
    """`{"modules": {path: {...}}}`, one module a line.

    Of each module: `kind`, `calls`, the answers `unreached`, `bypassed` and `gradient` (yes, no or unknown) with
    what there is of `evidence` for them, `init` (parameter to value and place), `tied` (paths), `block` (family and
    index, or null), `roles` (role to evidence), `role_parameters` (role to names) where a module holds several weights,
    and `unknown_roles` (role to why) where a role is undecided.
    """
    lines = [f"{json.dumps(path)}: {json.dumps(_as_json(graph[path]), ensure_ascii=False)}" for path in paths]
    return '{"modules": {\n' + ",\n".join(lines) + "\n}}\n"


def _as_json(module: Module) -> dict[str, Any]:
    found: dict[str, Any] = {"kind": module.kind, "calls": module.calls}
    found |= {name: getattr(module, name).answer for name in _FACTS}
    found |= {
        "evidence": {name: fact.evidence for name in _FACTS if (fact := getattr(module, name)).evidence},
        "init": {name: {"value": init.value, "place": init.place} for name, init in module.init.items()},
        "tied": list(module.tied),
        "block": {"family": module.block.family, "index": module.block.index} if module.block else None,
        "roles": dict(module.roles),
    }
    if module.role_parameters:
        found["role_parameters"] = {role: list(names) for role, names in module.role_parameters.items()}
    if module.unknown_roles:
        found["unknown_roles"] = dict(module.unknown_roles)
    return found


def facts_text(graph: Graph, paths: Iterable[str]) -> str:
    """The modules by block family, those that differ in nothing but their number on one line."""
    alike: dict[tuple[str, str], list[str]] = {}
    for path in paths:
        module = graph[path]
        family = module.block.family if module.block else ""
        alike.setdefault((family, "\n".join(_described(module))), []).append(path)
    order = {path: number for number, path in enumerate(graph)}
    families: dict[str, list[tuple[int, str]]] = {}
    for (family, described), members in alike.items():
        for group in group_paths(members):
            first = order[next(group.paths())]
            families.setdefault(family, []).append((first, _entry(str(group), len(group), described)))
    blocks = [
        "\n".join([_title(graph, family), *(e for _, e in sorted(entries))]) for family, entries in families.items()
    ]
    return "\n\n".join(blocks) + "\n" if blocks else "no module fits\n"


def _entry(paths: str, count: int, described: str) -> str:
    first, *rest = described.split("\n")
    return "\n".join([f"  {paths}{f'  x {count}' if count > 1 else ''}  {first}", *(f"      {line}" for line in rest)])


def _title(graph: Graph, family: str) -> str:
    if not family:
        return "outside of blocks"
    members = {m.block.index for m in graph.modules.values() if m.block and m.block.family == family}
    return f"{family}  {len(members)} blocks"


def _fused(module: Module, parameter: Parameter) -> str:
    """One of several weights of a module: its name, size and roles."""
    roles = [role for role, names in module.role_parameters.items() if parameter.name in names]
    return f"{parameter.name} {'x'.join(map(str, parameter.shape))}" + (f"  {', '.join(roles)}" if roles else "")


def _described(module: Module) -> Iterator[str]:
    """What tells a module from others: its class and sizes, then a line for each thing known of it."""
    weight = module.weight
    size = " " + "x".join(map(str, weight.shape)) if weight else ""
    calls = f"  called {module.calls} times" if module.calls > 1 else ""
    if module.parameters and not module.calls:
        calls = "  not called"
    yield f"{module.kind}{size}{calls}"
    for role, evidence in module.roles.items():
        yield f"{role}: {evidence}"
    for name in _FACTS:
        fact = getattr(module, name)
        if fact.answer != _RULE[name] and (module.parameters or fact.answer != "unknown"):
            yield f"{name}: {fact.answer}, {fact.evidence}"
    if not weight and len(module.weights) > 1:
        yield from (_fused(module, parameter) for parameter in module.weights)
    for parameter in module.parameters:
        # A bias of zeros is the rule, not news.
        if parameter.init.value in ("zero", "identity", "loaded") and not parameter.is_bias:
            yield f"{parameter.name} starts as {parameter.init.value} ({parameter.init.place})"
    if module.tied:
        yield f"shares storage with {', '.join(module.tied)}"
