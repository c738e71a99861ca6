"""Where content enters the model and where its output leaves, and what routes it between."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from surgery.facts import ops
from surgery.facts.flow import Flow

# From an input to its first projection. A sine or cosine encodes a position or a time, not content.
_BEFORE = ops.SHAPE | ops.SUMS | ops.PRODUCTS | ops.JOINS | {"where", "one_hot", "remainder"}
_AFTER = ops.SHAPE | ops.ACTIVATIONS | ops.UNARY | ops.JOINS


def input_roles(
    flow: Flow, streams: Collection[int], conditioning: set[int], inner: Collection[str]
) -> Iterator[tuple[str, str, str]]:
    """(module, role, evidence) of input_embedding.

    `streams` are the residual adds: behind one of them the content is embedded already. `inner` are the modules
    of attentions and feed-forward branches: an input that enters there has no embedding of its own.
    """
    for node in flow.nodes:
        if node.op != "input":
            continue
        for projection in _first_projections(flow, node.index, streams):
            owner = flow.projections[projection]
            if projection not in conditioning and owner not in inner and _counts(flow, projection):
                yield owner, "input_embedding", f"{node.target} -> {flow.word(projection)}; {flow.place(projection)}"


def _first_projections(flow: Flow, start: int, streams: Collection[int]) -> list[int]:
    found, waiting, seen = [], [start], {start}
    while waiting:
        node = waiting.pop()
        for user in flow.users[node]:
            if user in seen:
                continue
            seen.add(user)
            if user in flow.projections:
                found.append(user)
            elif flow.op(user) in _BEFORE and user not in streams:
                waiting.append(user)
    return found


def _counts(flow: Flow, projection: int) -> bool:
    """Whether a table is the content's own: not one of positions or types that is added to a larger table."""
    if flow.op(projection) != "embedding":
        return True
    rows = _rows(flow, projection)
    node, seen = projection, set()
    while True:
        adds = [user for user in flow.users[node] if flow.op(user) == "add" and user not in seen]
        if not adds:
            return True
        seen.update(adds)
        others = {o for source in flow.data(adds[0]) for o in _tables(flow, source) if o != projection}
        if any(_rows(flow, other) > rows for other in others):
            return False
        node = adds[0]


def _tables(flow: Flow, node: int) -> list[int]:
    """The tables whose rows a sum adds up."""
    if node in flow.projections:
        return [node] if flow.op(node) == "embedding" else []
    if flow.op(node) in ops.SUMS | ops.SHAPE:
        return [table for source in flow.data(node) for table in _tables(flow, source)]
    return []


def _rows(flow: Flow, projection: int) -> int:
    sizes = [flow.nodes[source].shape for source in flow.inputs(projection) if flow.static[source]]
    return sizes[0][0] if sizes and sizes[0] else 0


def output_roles(flow: Flow, inner: Collection[str]) -> Iterator[tuple[str, str, str]]:
    """(module, role, evidence) of output_head; what an attention returns for a cache (`inner`) is none."""
    waiting = [(node, [node]) for node in flow.outputs]
    seen = set(flow.outputs)
    while waiting:
        node, way = waiting.pop()
        if node in flow.projections:
            how = flow.path([*reversed(way)])
            if flow.projections[node] not in inner:
                yield flow.projections[node], "output_head", f"{how} -> output; {flow.place(node)}"
            continue
        data = flow.data(node)
        elementwise = flow.op(node) in _AFTER or (flow.op(node) in ops.SUMS | ops.PRODUCTS and len(data) == 1)
        for source in data if elementwise else ():
            if source not in seen:
                seen.add(source)
                waiting.append((source, [*way, source]))


def router_roles(flow: Flow) -> Iterator[tuple[str, str, str]]:
    """(module, role, evidence) of router: a projection whose scores a top-k picks experts by."""
    for node in flow.nodes:
        if node.op != "topk":
            continue
        waiting, seen = list(flow.data(node.index)), set()
        while waiting:
            source = waiting.pop()
            if source in seen:
                continue
            seen.add(source)
            if source in flow.projections:
                yield flow.projections[source], "router", f"{flow.op(source)} -> topk; {node.place}"
            elif flow.op(source) in ops.SHAPE | ops.SOFTMAX | ops.SUMS | ops.PRODUCTS | {"sigmoid", "masked_fill"}:
                waiting.extend(flow.data(source))
