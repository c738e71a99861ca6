"""Where content enters the model and where its output leaves."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from surgery.facts import ops
from surgery.facts.flow import Flow

# From an input to its first projection. A sine or cosine encodes a position or a time, not content.
_BEFORE = (
    ops.SHAPE
    | ops.SUMS
    | ops.PRODUCTS
    | ops.JOINS
    | ops.NORMS
    | {"where", "one_hot", "remainder", "interpolate", "upsample"}
)
_AFTER = ops.SHAPE | ops.ACTIVATIONS | ops.UNARY | ops.JOINS | ops.SOFTMAX


def input_roles(
    flow: Flow, streams: Collection[int], conditioning: set[int], inner: Collection[str], attending: Collection[str]
) -> Iterator[tuple[str, str, str]]:
    """(module, role, evidence) of input_embedding.

    `streams` are the residual adds: behind one of them the content is embedded already. `inner` are the modules
    of attentions (`attending`) and feed-forward branches: an input that enters there has no embedding of its own.
    """
    for node in flow.nodes:
        if node.op != "input":
            continue
        firsts = flow.reaching.intersection(_first_projections(flow, node.index, streams))
        entering = {source for first in firsts if flow.projections[first] in attending for source in flow.data(first)}
        for projection in firsts:
            owner = flow.projections[projection]
            # A gate beside queries and keys is no embedding either.
            beside = owner in inner or entering.intersection(flow.data(projection))
            if projection not in conditioning and not beside and _counts(flow, projection, streams):
                yield owner, "input_embedding", f"{node.target} -> {flow.word(projection)}; {flow.place(projection)}"


def _first_projections(flow: Flow, start: int, streams: Collection[int]) -> list[int]:
    found, waiting, seen = [], [start], {start}
    while waiting:
        node = waiting.pop()
        for user in flow.users[node]:
            if user in seen or node not in flow.data(user):
                continue  # an index picks, and does not flow
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
    module = flow.graph.modules.get(flow.projections[projection])
    if module is None or not module.parameters:
        return False
    if not flow.is_lookup(projection):
        return not _is_turned_into_waves(flow, projection)
    node, seen = projection, set()
    while True:
        adds = [u for u in flow.users[node] if flow.op(u) == "add" and u not in seen and u not in streams]
        if not adds:
            return True
        seen.update(adds)
        others = {o for source in flow.data(adds[0]) for o in _content(flow, source) if o != projection}
        if any(_is_the_content(flow, other, projection) for other in others):
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


def _is_the_content(flow: Flow, other: int, table: int) -> bool:
    """Whether, of what is added up, `other` is the content, and `table` one of positions or types.

    The content's own table is looked up by an input as it is, positions by what is counted; else the larger one.
    """
    if not flow.is_lookup(other):
        return True
    direct = [_is_given(flow, flow.data(projection)) for projection in (other, table)]
    return direct[0] if direct[0] != direct[1] else _rows(flow, other) > _rows(flow, table)


def _is_given(flow: Flow, index: tuple[int, ...]) -> bool:
    """Whether an index is an input of the model, but for its shape and dtype."""
    while len(index) == 1 and flow.op(index[0]) in ops.SHAPE:
        index = flow.data(index[0])
    return len(index) == 1 and flow.op(index[0]) == "input"


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

    A residual add behind the last layer (a convolution that smooths the output) has two of them. Where other heads
    are, what embeds an input is none: it is returned as the first of all hidden states.
    """
    heads = dict(_last_projections(flow, streams))
    firsts = {
        first for n in flow.nodes if n.op == "input" for first in _first_projections(flow, n.index, streams)
    } & heads.keys()
    for node, way in heads.items():
        if flow.projections[node] not in inner and (node not in firsts or heads.keys() == firsts):
            how = f"{flow.path([*reversed(way)])} -> output; {flow.place(node)}"
            yield flow.projections[node], "output_head", how


def _last_projections(flow: Flow, streams: Collection[int]) -> Iterator[tuple[int, list[int]]]:
    """The projections from which elementwise ops lead to an output, each with the way there."""
    waiting = [(node, [node]) for node in flow.outputs]
    seen = set(flow.outputs)
    while waiting:
        node, way = waiting.pop()
        if node in flow.projections:
            yield node, way
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
