"""Feed-forward branches and the last projections of all branches."""

from __future__ import annotations

from collections.abc import Iterator

from surgery.facts import ops
from surgery.facts.flow import Edge, Flow
from surgery.facts.residual import Residual, Residuals
from surgery.graph import Block

# Between the two layers of a branch: activation, gate, norm, shapes.
_BETWEEN = ops.SHAPE | ops.NORMS | ops.ACTIVATIONS | ops.PRODUCTS | ops.SUMS | ops.POOLS | ops.UNARY | {"norm"}


def branch_roles(
    flow: Flow, residuals: Residuals, gates: frozenset[Edge], blocks: dict[str, Block]
) -> Iterator[tuple[str, str, str]]:
    """(module, role, evidence) of residual_output, feedforward_in and feedforward_out."""
    for residual in residuals.all.values():
        for last, way in residuals.last_projections(residual.branch, gates).items():
            owner = flow.projections[last]
            path = flow.path([*reversed(way), residual.add])
            yield owner, "residual_output", f"{path}; {flow.place(residual.add)}"
            first = _first_layers(flow, last, residual) if owner in blocks else {}
            if not first:
                continue
            yield owner, "feedforward_out", f"{path}; {flow.place(last)}"
            for projection, steps in first.items():
                how = flow.path([*reversed(steps), last])
                yield flow.projections[projection], "feedforward_in", f"{how}; {flow.place(projection)}"


def _first_layers(flow: Flow, last: int, residual: Residual) -> dict[int, list[int]]:
    """The projections before a branch's last one, if between them lie only elementwise ops, one of them curved."""
    first: dict[int, list[int]] = {}
    curved = False
    waiting = [(source, [source]) for source in flow.data(last)]
    seen = set(flow.data(last))
    while waiting:
        node, way = waiting.pop()
        if node in flow.projections and not _is_depthwise(flow, node):
            first[node] = way
            continue
        if node <= residual.stream or (node not in flow.projections and flow.op(node) not in _BETWEEN | ops.JOINS):
            return {}
        features = [source for source in flow.data(node) if flow.hidden[source]]
        curved |= flow.op(node) in ops.ACTIVATIONS or (flow.op(node) in ops.PRODUCTS and len(features) == 2)
        for source in features:
            if source not in seen:
                seen.add(source)
                waiting.append((source, [*way, source]))
    return first if curved else {}


def _is_depthwise(flow: Flow, node: int) -> bool:
    """A convolution of each channel by itself mixes no features: it lies inside a branch, it is no layer of it."""
    module = flow.graph.modules.get(flow.projections[node])
    groups = module.numbers.get("groups", 1) if module else 1
    return flow.op(node) in ops.CONVOLUTIONS and groups > 1 and module is not None and groups == module.numbers["in_channels"]
