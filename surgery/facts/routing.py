"""What decides which expert runs, and with what weight."""

from __future__ import annotations

from collections.abc import Iterator

from surgery.facts import ops
from surgery.facts.flow import Flow
from surgery.graph import Node

# From scores to weights: softmax or sigmoid, a temperature and shapes.
_TO_WEIGHTS = ops.SHAPE | ops.SOFTMAX | ops.PRODUCTS | {"sigmoid"}


def router_roles(flow: Flow, experts: set[str]) -> Iterator[tuple[str, str, str]]:
    """(module, role, evidence) of router: a projection whose scores a top-k picks experts by, or weigh a shared one.

    `experts` are the modules that end a feed-forward branch.
    """
    yield from _picks(flow)
    for node in flow.nodes:
        if node.op in ops.SOFTMAX | {"sigmoid"}:
            score = flow.behind(node.index, _TO_WEIGHTS)
            if score not in flow.projections or (node.op == "sigmoid" and _width(flow, score) != 1):
                continue
            if product := _weighed(flow, node.index, experts):
                how = f"{flow.op(score)} -> {node.op} -> mul; {flow.place(product)}"
                yield flow.projections[score], "router", how


def _width(flow: Flow, projection: int) -> int:
    """How many features a projection makes: a convolution's are its second dimension."""
    shape = flow.nodes[projection].shape
    return shape[1] if flow.op(projection) in ops.CONVOLUTIONS else shape[-1]


def _weighed(flow: Flow, weight: int, experts: set[str]) -> int | None:
    """A product in which a part of a weight multiplies the larger result of one of `experts`."""
    waiting = [weight]
    while waiting:
        node = waiting.pop()
        for user in flow.users[node]:
            if flow.op(user) in ops.SHAPE and flow.inputs(user)[0] == node:
                waiting.append(user)
            elif flow.op(user) == "mul":
                others = [source for source in flow.data(user) if flow.size(source) > flow.size(node)]
                if any(_makers(flow, other) & experts for other in others):
                    return user
    return None


def _makers(flow: Flow, node: int) -> set[str]:
    """The modules whose results a node holds, side by side where there are several."""
    if node in flow.projections:
        return {flow.projections[node]}
    if flow.op(node) not in ops.SHAPE | ops.CONCATENATIONS:
        return set()
    return {maker for source in flow.data(node) for maker in _makers(flow, source)}


def _picks(flow: Flow) -> Iterator[tuple[str, str, str]]:
    for node in flow.nodes:
        if node.op not in ("topk", "argmax", "max") or not _decides(flow, node):
            continue
        waiting, seen = list(flow.data(node.index)), set()
        choices = flow.nodes[waiting[0]].shape if waiting else ()
        while waiting:
            source = waiting.pop()
            if source in seen:
                continue
            seen.add(source)
            if source in flow.projections:
                # The best of all tokens are no experts: the choice is among a projection's own features.
                if _width(flow, source) in choices[1:]:
                    yield flow.projections[source], "router", f"{flow.op(source)} -> {node.op}; {node.place}"
            elif flow.op(source) in ops.SHAPE | ops.SOFTMAX | ops.SUMS | ops.PRODUCTS | {"sigmoid", "masked_fill"}:
                waiting.extend(flow.data(source))


def _decides(flow: Flow, pick: Node) -> bool:
    """Whether the positions of the largest scores decide what is computed: not returned only, nor codes of a table."""
    positions = [n for n in (pick.index, *flow.users[pick.index]) if flow.nodes[n].dtype == "int64"]
    waiting = list(positions)
    while waiting:
        for user in flow.users[waiting.pop()]:
            if flow.is_lookup(user):
                return False
            if flow.op(user) in ops.SHAPE and flow.nodes[user].dtype == "int64":
                waiting.append(user)
    return any(flow.hidden[node] for node in flow.forward(positions))
