"""Which modules feed which: the data flow between modules, for the selectors that ask for it.

A module's output is what an op outside it reads of an op inside it; its input is what it reads of others.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

from surgery.facts import ops
from surgery.facts.flow import Flow
from surgery.graph import Graph, is_inside

Paths = frozenset[str]


def feeds(graph: Graph, of: Paths) -> Paths:
    """The modules whose output flows into one of `of`, through shape-only ops."""
    flow = _flow(graph)
    found = {source for source, _ in _entries(flow, of)}
    waiting = list(found)
    while waiting:
        node = waiting.pop()
        if flow.op(node) in ops.SHAPE:
            fresh = [source for source in flow.data(node) if source not in found]
            found.update(fresh)
            waiting.extend(fresh)
    return _making(flow, found) - of


def fed_by(graph: Graph, of: Paths) -> Paths:
    """The modules into which the output of one of `of` flows, through shape-only ops."""
    flow = _flow(graph)
    found = {node for node, made_by in _exits(flow).items() if made_by & of}
    waiting = list(found)
    readers: set[str] = set()
    while waiting:
        node = waiting.pop()
        for user in flow.users[node]:
            readers.update(_left_behind(flow.nodes[user].module, flow.nodes[node].module))
            if flow.op(user) in ops.SHAPE and user not in found:
                found.add(user)
                waiting.append(user)
    return frozenset(readers) - of


def reaches(graph: Graph, of: Paths) -> Paths:
    """The modules from whose output a path of ops leads to one of `of`."""
    flow = _flow(graph)
    return _making(flow, flow.backward({source for source, _ in _entries(flow, of)})) - of


def reached_by(graph: Graph, of: Paths) -> Paths:
    """The modules to which a path of ops leads from the output of one of `of`."""
    flow = _flow(graph)
    exits = {node for node, made_by in _exits(flow).items() if made_by & of}
    after = flow.forward(exits)
    found: set[str] = set()
    for node in after:
        for user in flow.users[node]:
            found.update(_left_behind(flow.nodes[user].module, flow.nodes[node].module))
    return frozenset(found) - of


@lru_cache(maxsize=4)
def _flow(graph: Graph) -> Flow:
    return Flow(graph)


def _entries(flow: Flow, of: Paths) -> Iterator[tuple[int, int]]:
    """The edges on which values enter one of `of`."""
    for node in flow.nodes:
        for source in flow.data(node.index):
            if any(path in of for path in _left_behind(node.module, flow.nodes[source].module)):
                yield source, node.index


@lru_cache(maxsize=4)
def _exits(flow: Flow) -> dict[int, set[str]]:
    """The nodes that are read outside a module they lie in, with these modules."""
    found: dict[int, set[str]] = {}
    for node in flow.nodes:
        if node.op not in ops.SOURCES:
            for user in flow.users[node.index]:
                left = _left_behind(node.module, flow.nodes[user].module)
                if left:
                    found.setdefault(node.index, set()).update(left)
    return found


def _making(flow: Flow, nodes: set[int]) -> Paths:
    exits = _exits(flow)
    return frozenset(path for node in nodes if node in exits for path in exits[node])


def _left_behind(module: str, other: str) -> list[str]:
    """`module` and those it lies in, up to the first that `other` lies in too."""
    found = []
    while module and module != other and not is_inside(other, module):
        found.append(module)
        module = module.rpartition(".")[0]
    return found
