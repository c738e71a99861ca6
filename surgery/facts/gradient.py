"""Whether a loss on the model's output can reach a module."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice

from surgery.facts import ops
from surgery.facts.flow import Edge, Flow
from surgery.graph import Fact, Module

# Zero in, zero out.
_KEEP_ZERO = ops.SHAPE | {"tanh", "relu", "gelu", "silu", "neg", "abs", "sin"}


def gradients(flow: Flow, reads: Mapping[str, list[int]]) -> dict[str, Fact]:
    """For every module that owns parameters: does the gradient of the output reach what it computes?

    It is cut by `no_grad`, `detach`, integers and flat functions, by a projection whose weight starts as zeros (the
    gradient of its input is zero), and by a product with what such a projection, bias and all, made, or with a gate
    that starts as zeros.
    """
    zeros = _zero_projections(flow)
    cuts = _zero_edges(flow, zeros)
    outputs = [node for node in flow.outputs if _has_slope(flow, node)]
    passes = flow.backward(outputs, keep=lambda node: _has_slope(flow, node), without=cuts.keys())
    could = flow.backward(outputs, keep=lambda node: _has_slope(flow, node))
    found: dict[str, Fact] = {}
    for path, users in reads.items():
        if way := next((user for user in users if user in passes), None):
            found[path] = Fact("yes", f"{flow.op(way)} reaches the output; {flow.place(way)}")
        elif any(user in could for user in users):
            found[path] = Fact("no", _why(flow, users, cuts, passes))
        elif users:
            found[path] = Fact("no", "its result does not reach the output, or only through no_grad or detach")
    return found


def _has_slope(flow: Flow, node: int) -> bool:
    """Whether a gradient passes a node: not under no_grad, by a flat function, or through integers."""
    return not flow.nodes[node].cut and flow.is_float(node)


def _zero_projections(flow: Flow) -> dict[int, bool]:
    """Projections whose weight starts as zeros: to whether their whole result is zero, bias included."""
    found = {}
    for node, owner in flow.projections.items():
        module = flow.graph.modules.get(owner)
        weights = [p for p in module.parameters if not p.is_bias] if module else []
        if module and weights and all(p.init.value == "zero" for p in weights):
            found[node] = all(p.init.value == "zero" for p in module.parameters)
    return found


def _zero_edges(flow: Flow, zeros: Mapping[int, bool]) -> dict[Edge, str]:
    """The edges through which no gradient passes, each with the module whose zeros stop it."""
    cuts: dict[Edge, str] = {}
    zero_valued: dict[int, str] = {}
    for node in flow.nodes:
        data = flow.data(node.index)
        if node.index in zeros:
            owner = flow.projections[node.index]
            cuts.update({(source, node.index): owner for source in data})
            if zeros[node.index]:
                zero_valued[node.index] = owner
        elif node.op == "parameter" and _starts_as_zeros(flow, node.target):
            zero_valued[node.index] = node.target.rpartition(".")[0]
        elif node.op in _KEEP_ZERO and node.inputs and node.inputs[0] in zero_valued:
            zero_valued[node.index] = zero_valued[node.inputs[0]]
        elif node.op == "mul":
            for source in node.inputs:
                if source in zero_valued:
                    cuts.update({(other, node.index): zero_valued[source] for other in data if other != source})
    return cuts


def _starts_as_zeros(flow: Flow, parameter: str) -> bool:
    owner, _, name = parameter.rpartition(".")
    held = flow.graph.modules[owner].parameter(name) if owner in flow.graph.modules else None
    return held is not None and held.init.value == "zero"


def _why(flow: Flow, users: list[int], cuts: Mapping[Edge, str], passes: set[int]) -> str:
    """The zeros that a module's result is multiplied by first, and last before the output."""
    near = flow.forward(users, without=cuts.keys())
    far = flow.forward(users)
    # Where the way joins again behind a product, the product stops nothing.
    first = (owner for (source, user), owner in cuts.items() if source in near and not flow.forward([user]) & near)
    last = [owner for (source, user), owner in cuts.items() if source in far and user in passes]
    stops = list(dict.fromkeys([*islice(first, 1), *last[-1:]]))
    named = []
    for owner in stops:
        zeros = [p for p in flow.graph.modules[owner].parameters if p.init.value == "zero"]
        init = min(zeros, key=lambda parameter: parameter.is_bias).init
        named.append(f"{flow.named(owner)} starts as zeros ({init.place})")
    return f"every way to the output is multiplied by zero: {' and '.join(named)}"


def without_parameters(modules: Mapping[str, Module], found: Mapping[str, Fact]) -> dict[str, Fact]:
    """A module without parameters of its own: yes where something in it gets a gradient."""
    facts = dict(found)
    for path in reversed(list(modules)):
        parent = path.rpartition(".")[0]
        if path and path in facts and facts[path].answer == "yes" and not modules[parent].parameters:
            facts.setdefault(parent, Fact("yes", "a module in it gets one"))
    return facts
