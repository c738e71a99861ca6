"""The graph file, `*.graph.json`.

One JSON object: a first line with `format`, `format_version`, `fingerprint` and the
header, then the body. What repeats (module layouts, facts, kinds of modules and ops, strings, shapes) stands once in a
table and is named by its number; modules and ops refer to each other by distance, which repeats from block to block.
The fingerprint is the SHA-256 of the body's text, so a cut or edited file is recognised without decoding it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Hashable, Iterable
from pathlib import Path
from typing import Any

from surgery.collector import paused_collector
from surgery.diagnostics import Diagnostic, SurgeryError
from surgery.files import read_text, replace_file
from surgery.graph.model import NO, Block, Fact, Graph, Header, Init, LazyNodes, Module, Node, Parameter

FORMAT = "surgery-graph"
FORMAT_VERSION = 2
_UNKNOWN = Fact("unknown")


def write_graph(graph: Graph, path: Path | str) -> None:
    """Write a graph file in one step. Raises SurgeryError (E0514)."""
    body = _body_text(graph)
    head = {"format": FORMAT, "format_version": FORMAT_VERSION, "fingerprint": _digest(body)}
    header = {
        "model": graph.header.model,
        "settings": graph.header.settings,
        "inputs": graph.header.inputs,
        "versions": dict(graph.header.versions),
    }
    replace_file(path, json.dumps({**head, "header": header}, ensure_ascii=False)[:-1] + ',\n"body": ' + body)


@paused_collector()
def read_graph(path: Path | str) -> Graph:
    """Read a graph file. Raises SurgeryError: E0501, E0002 for a file that is none, E0502 for a damaged one."""
    text = read_text(path, what="graph file", help="write it with `surgery capture F.surg`")
    first, _, rest = text.partition("\n")
    try:
        head = json.loads(first.rstrip().rstrip(",") + "}")
        if not isinstance(head, dict) or head.get("format") != FORMAT:
            raise _damaged(path, "this is not a graph file")
        if head["format_version"] != FORMAT_VERSION:
            raise _damaged(path, f"its format version is {head['format_version']}; this release reads {FORMAT_VERSION}")
        if _digest(rest.removeprefix('"body": ')) != head["fingerprint"]:
            raise _damaged(path, "its content does not match its fingerprint: it was cut short or edited")
        graph = _decode(Header(**head["header"]), json.loads("{" + rest)["body"])
    except (ValueError, KeyError, IndexError, TypeError) as error:
        if isinstance(error, SurgeryError):
            raise
        raise _damaged(path, f"it cannot be decoded ({type(error).__name__})") from None
    graph.__dict__["fingerprint"] = head["fingerprint"]
    return graph


def fingerprint(graph: Graph) -> str:
    """`sha256:...` of the text that `write_graph` would write, its header left out."""
    return _digest(_body_text(graph))


def _damaged(path: Path | str, why: str) -> SurgeryError:
    return SurgeryError(
        Diagnostic(
            "E0502",
            f"the graph file cannot be used: {why}",
            place=str(path),
            helps=("capture it again with `surgery capture F.surg`, or restore it from version control",),
        )
    )


def _digest(text: str) -> str:
    return "sha256:" + hashlib.sha256(text.encode("utf-8")).hexdigest()


class _Table:
    """Numbers distinct values in the order they are first seen."""

    def __init__(self) -> None:
        self.rows: list[Any] = []
        self._numbers: dict[Hashable, int] = {}

    def number(self, key: Hashable, row: Any = None) -> int:
        if key not in self._numbers:
            self._numbers[key] = len(self.rows)
            self.rows.append(key if row is None else row)
        return self._numbers[key]


# --- writing --------------------------------------------------------------------------------


def _body_text(graph: Graph) -> str:
    strings, shapes, layouts, facts, module_kinds, node_kinds = (_Table() for _ in range(6))
    modules = _encode_modules(graph, strings, layouts, facts, module_kinds)
    nodes = _encode_nodes(graph, strings, shapes, node_kinds)
    tables: dict[str, Iterable[Any]] = {
        "layouts": layouts.rows,
        "facts": facts.rows,
        "module_kinds": module_kinds.rows,
        "modules": modules,
        "node_kinds": node_kinds.rows,
        "nodes": nodes,
        "shapes": shapes.rows,
        "strings": strings.rows,
    }
    lines = [f'"{name}": [\n' + ",\n".join(map(_compact, rows)) + "\n]" for name, rows in tables.items()]
    return "{\n" + ",\n".join(lines) + "\n}}\n"


def _compact(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def _encode_modules(graph: Graph, strings: _Table, layouts: _Table, facts: _Table, kinds: _Table) -> list[Any]:
    """`[distance to its parent, kind, extra]`; a kind is what siblings in other blocks share, its name included."""
    rows: list[Any] = []
    numbers = {path: number for number, path in enumerate(graph.modules)}
    next_storage = 0
    for path, module in graph.modules.items():
        parent, _, name = path.rpartition(".")
        kind = [
            name,
            _number_of(layouts, _layout(module, strings)),
            module.calls,
            _number_of(facts, _facts(module, strings)),
        ]
        extra: dict[str, Any] = {}
        storages = [p.storage for p in module.parameters]
        if storages != list(range(next_storage, next_storage + len(storages))):
            extra["storage"] = storages
        next_storage = max([next_storage - 1, *storages]) + 1
        if module.block != (graph.modules[parent].block if path else None):
            extra["block"] = [strings.number(module.block.family), module.block.index] if module.block else None
        if module.tied:
            extra["tied"] = list(module.tied)
        row = [numbers[path] - numbers[parent] if path else 0, kinds.number(tuple(kind), kind)]
        rows.append([*row, extra] if extra else row)
    return rows


def _number_of(table: _Table, row: Any) -> int:
    return table.number(_compact(row), row)


def _layout(module: Module, strings: _Table) -> list[Any]:
    parameters = [
        [p.name, list(p.shape), p.dtype, p.init.value, strings.number(p.init.place or "")] for p in module.parameters
    ]
    return [module.kind, [base for base in module.bases if base != module.kind], dict(module.numbers), parameters]


def _facts(module: Module, strings: _Table) -> dict[str, Any]:
    row: dict[str, Any] = {}
    for name, default in (("unreached", NO), ("bypassed", NO), ("gradient", _UNKNOWN)):
        fact: Fact = getattr(module, name)
        if fact != default:
            row[name] = [fact.answer, strings.number(fact.evidence)]
    for name in ("roles", "unknown_roles"):
        if roles := getattr(module, name):
            row[name] = {role: strings.number(evidence) for role, evidence in roles.items()}
    if module.role_parameters:
        row["role_parameters"] = {role: list(names) for role, names in module.role_parameters.items()}
    return row


def _encode_nodes(graph: Graph, strings: _Table, shapes: _Table, kinds: _Table) -> list[Any]:
    """`[kind, distance of its module to the last node's, distances to its inputs ...]`, all small numbers.

    A parameter has no inputs: in their place stands the distance of the module that holds it to the one that reads it.
    """
    numbers = {path: number for number, path in enumerate(graph.modules)}
    rows = []
    last = 0
    for node in graph.nodes:
        module = numbers.get(node.module, 0)
        target, rest = node.target, [node.index - source for source in node.inputs]
        if node.op == "parameter":
            owner, _, target = node.target.rpartition(".")
            rest = [numbers[owner] - module]
        kind = (
            strings.number(node.op),
            shapes.number((node.dtype, *node.shape), [node.dtype, *node.shape]),
            strings.number(node.place),
            strings.number(target),
            strings.number(_compact(list(node.arguments)) if node.arguments else ""),
            int(node.cut),
        )
        rows.append([kinds.number(kind), module - last, *rest])
        last = module
    return rows


# --- reading --------------------------------------------------------------------------------


def _decode(header: Header, body: dict[str, Any]) -> Graph:
    modules = _decode_modules(body)
    return Graph(header, modules, LazyNodes(lambda: _decode_nodes(body, list(modules))))


def _decode_modules(body: dict[str, Any]) -> dict[str, Module]:
    strings: list[str] = body["strings"]
    layouts = [_decode_layout(row, strings) for row in body["layouts"]]
    facts = [_decode_facts(row, strings) for row in body["facts"]]
    kinds = body["module_kinds"]
    modules: dict[str, Module] = {}
    paths: list[str] = []
    next_storage = 0
    nothing: dict[str, Any] = {}
    for number, (distance, module_kind, *more) in enumerate(body["modules"]):
        name, layout, calls, fact = kinds[module_kind]
        extra = more[0] if more else nothing
        parent = paths[number - distance] if distance else ""
        path = f"{parent}.{name}" if parent else name
        kind, bases, numbers, make_parameters, count = layouts[layout]
        storages = extra.get("storage") or range(next_storage, next_storage + count)
        next_storage = max([next_storage - 1, *storages]) + 1
        paths.append(path)
        inherited = modules[parent].block if distance else None
        block = extra.get("block", inherited)
        modules[path] = Module(
            path=path,
            kind=kind,
            bases=bases,
            numbers=numbers,
            parameters=make_parameters(storages),
            calls=calls,
            tied=tuple(extra.get("tied", ())),
            block=Block(strings[block[0]], block[1]) if isinstance(block, list) else block,
            **facts[fact],
        )
    return modules


_Layout = tuple[str, tuple[str, ...], dict[str, int], Callable[[Iterable[int]], tuple[Parameter, ...]], int]


def _decode_layout(row: list[Any], strings: list[str]) -> _Layout:
    kind, bases, numbers, parameters = row
    known = [
        (name, tuple(shape), dtype, Init(value, strings[place] or None))
        for name, shape, dtype, value, place in parameters
    ]

    def make(storages: Iterable[int]) -> tuple[Parameter, ...]:
        return tuple(Parameter(*fields, storage) for fields, storage in zip(known, storages, strict=True))

    return kind, (kind, *bases), numbers, make, len(known)


def _decode_facts(row: dict[str, Any], strings: list[str]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in row.items():
        if name == "role_parameters":
            found[name] = {role: tuple(names) for role, names in value.items()}
        elif isinstance(value, dict):
            found[name] = {role: strings[evidence] for role, evidence in value.items()}
        else:
            found[name] = Fact(value[0], strings[value[1]])
    return found


def _decode_nodes(body: dict[str, Any], paths: list[str]) -> tuple[Node, ...]:
    strings: list[str] = body["strings"]
    kinds = [_decode_kind(row, strings, body["shapes"]) for row in body["node_kinds"]]
    nodes = []
    module = 0
    for index, (kind, distance, *rest) in enumerate(body["nodes"]):
        op, dtype, shape, place, target, arguments, cut = kinds[kind]
        module += distance
        inputs = tuple([index - one for one in rest])
        if op == "parameter":
            owner = paths[module + rest[0]]
            target, inputs = f"{owner}.{target}" if owner else target, ()
        nodes.append(Node(index, op, paths[module], inputs, arguments, target, shape, dtype, place, cut))
    return tuple(nodes)


def _decode_kind(row: list[int], strings: list[str], shapes: list[list[Any]]) -> tuple[Any, ...]:
    op, shape, place, target, arguments, cut = row
    dtype, *sizes = shapes[shape]
    given = tuple(json.loads(strings[arguments])) if strings[arguments] else ()
    return strings[op], dtype, tuple(sizes), strings[place], strings[target], given, bool(cut)
