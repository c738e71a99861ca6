"""Norms: fused ops, and `x * rsqrt(mean(x ** 2) + eps)` written out."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from functools import lru_cache

from surgery.facts import ops
from surgery.facts.flow import Flow
from surgery.graph import Node

_SQUARES = ("pow", "square", "var", "var_mean", "std")
_MEANS = {"mean", "var", "var_mean", "std"}
_ROOTS = {"rsqrt": "inverse root", "sqrt": "root", "reciprocal": "inverse", "rdiv": "inverse"}
_POWERS = {0.5: "root", -0.5: "inverse root", -1.0: "inverse"}


_KEEP_FROM_ZERO = ops.SHAPE | ops.SUMS | ops.PRODUCTS | {"clamp_min", "maximum"}


@lru_cache(maxsize=4)
def norms(flow: Flow) -> Mapping[int, int]:
    """The nodes that normalise, each with the node whose value it normalises."""
    found = {}
    for node in flow.nodes:
        data = flow.data(node.index)
        if node.op in ops.NORMS and node.inputs:
            found[node.index] = data[0] if data else node.inputs[0]
        elif node.op in ("mul", "div") and len(node.inputs) == 2:
            if by := _by_kept_statistics(flow, node):
                found[node.index] = by
                continue
            if node.op == "div" and _is_length(flow, node.inputs[1], node.inputs[0]):
                found[node.index] = node.inputs[0]
                continue
            for statistic, value in (node.inputs, node.inputs[::-1]):
                if _is_root_mean_square(flow, statistic, value, divides=node.op == "div"):
                    found[node.index] = value
                    break
    return found


def follows_norm(flow: Flow, node: int) -> bool:
    """Whether a node is a norm's result, but for its shape and an affine map of parameters."""
    known = norms(flow)
    while node not in known:
        data = flow.data(node)
        if len(data) != 1 or flow.op(node) not in ops.SHAPE | ops.PRODUCTS | ops.SUMS:
            return False
        node = data[0]
    return True


def norm_roles(flow: Flow, streams: Collection[int]) -> Iterator[tuple[str, str, str]]:
    """(module, role, evidence) of norm; not of a block or an attention that normalises on the way.

    `streams` are the residual adds: a module that joins a branch to one is a block.
    """
    mixing = {flow.nodes[index].module for index in streams}
    mixing |= {node.module for node in flow.nodes if _mixes(flow, node)}
    for index in norms(flow):
        node = flow.nodes[index]
        if node.module in mixing:
            continue
        by_length = node.op == "normalize" or (node.op == "div" and _is_length(flow, node.inputs[1], node.inputs[0]))
        if not by_length or _leaves_its_module(flow, index):
            how = node.op if node.op in ops.NORMS else f"{node.op}(root of the mean of squares)"
            yield node.module, "norm", f"{how}; {node.place}"


def _mixes(flow: Flow, node: Node) -> bool:
    """Whether a node is an attention, or another product of two features."""
    if node.op in ops.PRODUCTS_OF_MATRICES:
        return node.index not in flow.projections and sum(flow.hidden[source] for source in node.inputs) > 1
    return node.op in ops.FUSED_ATTENTION | ops.SOFTMAX


def _is_root_mean_square(flow: Flow, statistic: int, value: int, *, divides: bool) -> bool:
    """Whether `statistic` is the (inverse) root of the mean square, or variance, of what `value` is made of."""
    roots = _roots(flow, statistic)
    if roots not in (("root", "inverse"), ("inverse", "root"), ("inverse root",)) and not (
        divides and roots == ("root",)
    ):
        return False
    module = flow.nodes[statistic].module
    inside = flow.backward([statistic], lambda n: flow.nodes[n].module == module)
    names = {flow.op(n) for n in inside}
    squared = any(flow.op(n) in _SQUARES or (flow.op(n) == "mul" and len(set(flow.inputs(n))) == 1) for n in inside)
    if not squared or not names & _MEANS:
        return False
    measured = {source for n in inside for source in flow.data(n)}
    return bool(measured & flow.backward([value], lambda n: n >= min(measured, default=0)))


def _roots(flow: Flow, statistic: int) -> tuple[str, ...]:
    """The roots and inverses that a statistic is made by last, the last first; what keeps it from zero left out."""
    found: list[str] = []
    while True:
        node = flow.nodes[statistic]
        kind = _ROOTS.get(node.op) or _POWERS.get(next((a for a in node.arguments if isinstance(a, float)), 0.0), "")
        if node.op in _ROOTS or (node.op == "pow" and kind):
            found.append(kind)
        elif node.op == "std":
            return (*found, "root")
        elif node.op not in ops.SHAPE | ops.SUMS or not found:
            return tuple(found)
        data = flow.data(statistic)
        if len(data) != 1:
            return tuple(found)
        statistic = data[0]


def _by_kept_statistics(flow: Flow, node: Node) -> int | None:
    """The value that a node divides by the root of a variance in a buffer: a batch norm that is frozen."""
    for scale, value in (node.inputs, node.inputs[::-1]):
        if flow.static[scale] and not flow.static[value]:
            made_of = [flow.nodes[n] for n in flow.backward([scale])]
            buffers = any(n.op == "parameter" and not flow.is_parameter(n) for n in made_of)
            if buffers and any(n.op in ("rsqrt", "sqrt") and n.module == node.module for n in made_of):
                return value
    return None


def _is_length(flow: Flow, divisor: int, value: int) -> bool:
    """Whether a divisor is the length of the vectors that it divides, kept from zero: `normalize` written out."""
    while len(data := flow.data(divisor)) == 1 and flow.op(divisor) in _KEEP_FROM_ZERO:
        divisor = data[0]
    return flow.op(divisor) in ops.MAGNITUDES and value in flow.data(divisor)


def _leaves_its_module(flow: Flow, normalized: int) -> bool:
    """Whether a module returns what it divided by its length, scaled by parameters: an RMS norm up to a factor.

    Attentions with cosines divide queries and keys by their length too, and multiply them there.
    """
    module, waiting = flow.nodes[normalized].module, [normalized]
    if any(node.module == module and node.op == "topk" for node in flow.nodes):
        return False  # the weights of experts, made to add up to one
    while waiting:
        for user in flow.users[waiting.pop()]:
            if flow.nodes[user].module == module:
                if flow.op(user) not in ops.SHAPE | ops.PRODUCTS | ops.SUMS or len(flow.data(user)) != 1:
                    return False
                waiting.append(user)
    return True
