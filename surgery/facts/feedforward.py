"""Feed-forward branches and the last projections of all branches."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass

from surgery.facts import ops
from surgery.facts.flow import Edge, Flow
from surgery.facts.residual import Residuals

# Between the two layers of a branch: activation, gate, norm, shapes.
_BETWEEN = ops.SHAPE | ops.NORMS | ops.ACTIVATIONS | ops.PRODUCTS | ops.SUMS | ops.POOLS | ops.UNARY | ops.BENDS


def branch_roles(flow: Flow, residuals: Residuals, gates: frozenset[Edge]) -> Iterator[tuple[str, str, str, int]]:
    """(module, role, evidence, projection) of residual_output, feedforward_in and feedforward_out."""
    for residual in residuals.all.values():
        inside = residuals.inside(residual.branch, residual.stream)
        for last, way in residuals.last_projections(residual, gates).items():
            owner = flow.projections[last]
            path = flow.path([*reversed(way), residual.add])
            yield owner, "residual_output", f"{path}; {flow.place(residual.add)}", last
            if flow.op(last) == ops.MULTI_HEAD or any(map(flow.is_activation, way)):
                continue
            given = tuple(source for source in flow.data(last) if source in inside and flow.hidden[source])
            found = _first_layers(flow, given, residual.stream, inside, gates)
            if not found or not found.curved or not _are_first(flow, found, inside, residuals.all):
                continue
            yield owner, "feedforward_out", f"{path}; {flow.place(last)}", last
            for projection, steps in found.ways.items():
                how = flow.path([*steps, last])
                yield flow.projections[projection], "feedforward_in", f"{how}; {flow.place(projection)}", projection


@dataclass
class _Layers:
    """The projections before a branch's last one, with the way from each, and whether an activation lies between."""

    ways: dict[int, list[int]]
    curved: bool


def _are_first(flow: Flow, layers: _Layers, inside: set[int], streams: Collection[int]) -> bool:
    """Whether no other layer and activation come before these: a branch of three layers has no first of two.

    Two in a row without an activation between them are one, of low rank.
    """
    waiting = [(source, False) for layer in layers.ways for source in flow.data(layer)]
    seen = set(waiting)
    while waiting:
        node, bent = waiting.pop()
        if node not in inside or node in streams:
            continue
        bent |= flow.is_activation(node)
        if bent and node in flow.projections and not _is_depthwise(flow, node):
            return False
        sources = flow.data(node)
        if flow.op(node) in ops.PRODUCTS:  # not what weighs the input of an expert
            whole = [source for source in sources if flow.size(source) == flow.size(node)]
            # Nor a gate that is computed from what it multiplies.
            sources = tuple(s for s in whole if not any(s != o and flow.depends(s, on=o) for o in whole))
        fresh = [(source, bent) for source in sources if (source, bent) not in seen]
        seen.update(fresh)
        waiting.extend(fresh)
    return True


def _first_layers(
    flow: Flow, nodes: tuple[int, ...], stream: int, inside: set[int], gates: frozenset[Edge]
) -> _Layers | None:
    """The first layers behind `nodes`, if between them and the stream lie only elementwise ops; else None.

    What enters on one of the `gates` is modulation, and what is not `inside` the branch is no part of it.
    """
    found = _Layers({}, False)
    for node in nodes:
        if node in flow.projections and not _is_depthwise(flow, node):
            found.ways[node] = [node]
            continue
        op = flow.op(node)
        features = tuple(s for s in flow.data(node) if flow.hidden[s] and s in inside and (s, node) not in gates)
        if node <= stream or not features:
            return None
        if op in ops.CONCATENATIONS:
            # A fused layer reads several branches side by side; each counts for itself.
            parts = [part for source in features if (part := _first_layers(flow, (source,), stream, inside, gates))]
        elif op in _BETWEEN or node in flow.projections:
            parts = [part] if (part := _first_layers(flow, features, stream, inside, gates)) else []
        else:
            return None
        if not parts:
            return None
        for part in parts:
            found.ways.update({first: [*way, node] for first, way in part.ways.items()})
            found.curved |= part.curved
        found.curved |= op in ops.BENDS or (op in ops.PRODUCTS and len(features) == 2)
    return found if found.ways else None


def _is_depthwise(flow: Flow, node: int) -> bool:
    """A convolution of each channel by itself mixes no features: it lies inside a branch, it is no layer of it."""
    module = flow.graph.modules.get(flow.projections[node])
    groups = module.numbers.get("groups", 1) if module else 1
    return (
        flow.op(node) in ops.CONVOLUTIONS
        and groups > 1
        and module is not None
        and groups == module.numbers["in_channels"]
    )
