"""Where content enters the model and where its output leaves, and what routes it between."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from surgery.facts import ops
from surgery.facts.flow import Flow
from surgery.graph import Node

# From an input to its first projection. A sine or cosine encodes a position or a time, not content.
_BEFORE = ops.SHAPE | ops.SUMS | ops.PRODUCTS | ops.JOINS | ops.NORMS | {"where", "one_hot", "remainder"}
_AFTER = ops.SHAPE | ops.ACTIVATIONS | ops.UNARY | ops.JOINS | ops.SOFTMAX


def input_roles(
    flow: Flow, streams: Collection[int], conditioning: set[int], inner: Collection[str]
) -> Iterator[tuple[str, str, str]]:
    """(module, role, evidence) of input_embedding.

    `streams` are the residual adds: behind one of them the content is embedded already. `inner` are the modules
    of attentions and feed-forward branches: an input that enters there has no embedding of its own.
    """
    reaching = flow.backward(flow.outputs)
    for node in flow.nodes:
        if node.op != "input":
            continue
        for projection in reaching.intersection(_first_projections(flow, node.index, streams)):
            owner = flow.projections[projection]
            if projection not in conditioning and owner not in inner and _counts(flow, projection, streams):
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
            elif flow.op(user) in _BEFORE and not (
                _is_inside_a_layer(flow, user, streams) or _masks_features(flow, user)
            ):
                waiting.append(user)
    return found


def _masks_features(flow: Flow, node: int) -> bool:
    """Whether a node multiplies features, so that an input that comes in here is a mask on them."""
    return flow.op(node) in ops.PRODUCTS and any(flow.hidden[source] for source in flow.data(node))


def _is_inside_a_layer(flow: Flow, add: int, streams: Collection[int]) -> bool:
    """Whether a node joins a branch to the stream within the layers, and not before or after them."""
    return add in streams and flow.in_block(flow.nodes[add].module)


def _counts(flow: Flow, projection: int, streams: Collection[int]) -> bool:
    """Whether a projection is the content's own.

    Not one whose sines and cosines encode a time, nor a table of positions or types that is added to a larger one or
    to projected features.
    """
    if flow.op(projection) != "embedding":
        return not _is_turned_into_waves(flow, projection)
    rows = _rows(flow, projection)
    node, seen = projection, set()
    while True:
        adds = [u for u in flow.users[node] if flow.op(u) == "add" and u not in seen and u not in streams]
        if not adds:
            return True
        seen.update(adds)
        others = {o for source in flow.data(adds[0]) for o in _content(flow, source) if o != projection}
        if any(flow.op(other) != "embedding" or _rows(flow, other) > rows for other in others):
            return False
        node = adds[0]


def _is_turned_into_waves(flow: Flow, projection: int) -> bool:
    """Whether only sines and cosines of a projection's result are used: random Fourier features."""
    waiting, found = [projection], set()
    while waiting:
        for user in flow.users[waiting.pop()]:
            if flow.op(user) in ops.SHAPE | ops.PRODUCTS | ops.SUMS and len(flow.data(user)) == 1:
                waiting.append(user)
            else:
                found.add(flow.op(user))
    return bool(found) and found <= {"sin", "cos"}


def _content(flow: Flow, start: int) -> set[int]:
    """The projections, tables among them, whose results a sum adds up."""
    found, waiting, seen = set(), [start], {start}
    while waiting:
        node = waiting.pop()
        if node in flow.projections:
            found.add(node)
        elif flow.op(node) in ops.SUMS | ops.SHAPE:
            fresh = [source for source in flow.data(node) if source not in seen]
            seen.update(fresh)
            waiting.extend(fresh)
    return found


def _rows(flow: Flow, projection: int) -> int:
    sizes = [flow.nodes[source].shape for source in flow.inputs(projection) if flow.static[source]]
    return sizes[0][0] if sizes and sizes[0] else 0


def output_roles(flow: Flow, streams: Collection[int], inner: Collection[str]) -> Iterator[tuple[str, str, str]]:
    """(module, role, evidence) of output_head; what an attention returns for a cache (`inner`) is none.

    A residual add behind the last layer (a convolution that smooths the output) has two of them.
    """
    waiting = [(node, [node]) for node in flow.outputs]
    seen = set(flow.outputs)
    while waiting:
        node, way = waiting.pop()
        if node in flow.projections:
            how = flow.path([*reversed(way)])
            if flow.projections[node] not in inner:
                yield flow.projections[node], "output_head", f"{how} -> output; {flow.place(node)}"
            continue
        data = tuple(source for source in flow.data(node) if flow.hidden[source]) or flow.data(node)
        op = flow.op(node)
        elementwise = op in _AFTER or (op in ops.SUMS | ops.PRODUCTS and len(data) == 1)
        elementwise |= node in streams and not _is_inside_a_layer(flow, node, streams)
        elementwise &= op not in ("detach", "data")  # kept for another call, not returned to be learnt from
        for source in data if elementwise else ():
            if source not in seen:
                seen.add(source)
                waiting.append((source, [*way, source]))


def router_roles(flow: Flow, experts: set[str]) -> Iterator[tuple[str, str, str]]:
    """(module, role, evidence) of router: a projection whose scores a top-k picks experts by, or weigh a shared one.

    `experts` are the modules that end a feed-forward branch.
    """
    yield from _picks(flow)
    for node in flow.nodes:
        if node.op in ops.SOFTMAX | {"sigmoid"}:
            score = _unshaped(flow, node.index)
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


def _unshaped(flow: Flow, node: int) -> int:
    """What a score was before softmax or sigmoid, a temperature and shapes."""
    on_the_way = ops.SHAPE | ops.SOFTMAX | ops.PRODUCTS | {"sigmoid"}
    while node not in flow.projections and flow.op(node) in on_the_way and len(flow.data(node)) == 1:
        node = flow.data(node)[0]
    return node


def _picks_one(flow: Flow, node: Node) -> bool:
    """Whether the position of a largest score decides what is computed, and is not only returned."""
    if node.op not in ("argmax", "max"):
        return False
    positions = [n for n in (node.index, *flow.users[node.index]) if flow.nodes[n].dtype == "int64"]
    return bool(flow.forward(positions) & flow.projections.keys()) if positions else False


def _picks(flow: Flow) -> Iterator[tuple[str, str, str]]:
    for node in flow.nodes:
        if node.op != "topk" and not _picks_one(flow, node):
            continue
        waiting, seen = list(flow.data(node.index)), set()
        while waiting:
            source = waiting.pop()
            if source in seen:
                continue
            seen.add(source)
            if source in flow.projections:
                yield flow.projections[source], "router", f"{flow.op(source)} -> {node.op}; {node.place}"
            elif flow.op(source) in ops.SHAPE | ops.SOFTMAX | ops.SUMS | ops.PRODUCTS | {"sigmoid", "masked_fill"}:
                waiting.extend(flow.data(source))
