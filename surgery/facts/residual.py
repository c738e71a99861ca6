"""Residual adds: where a branch joins the stream it came from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

from surgery.facts import ops
from surgery.facts.flow import Edge, Flow
from surgery.facts.norms import norms

# On the way of a stream around a layer that has another size.
_POOLED = {"mean", "avg_pool1d", "avg_pool2d", "max_pool1d", "max_pool2d", "interpolate", "upsample"}
_AROUND_A_SHORTCUT = ops.SHAPE | ops.NORMS | ops.PRODUCTS | ops.SUMS | _POOLED
_ADDS = {"add", "index_add", "scatter_add"}
_BENDING = ops.ACTIVATIONS | ops.SOFTMAX | ops.FUSED_ATTENTION | {ops.MULTI_HEAD}
_IN_PARALLEL = 4  # branches that leave a stream at one place and are added to it one after the other


@dataclass(frozen=True)
class Residual:
    """An add of a stream and a branch that was computed from it."""

    add: int
    stream: int
    branch: int


class Residuals:
    """The residual adds of a graph and the projections that end their branches."""

    def __init__(self, flow: Flow) -> None:
        self.flow = flow

    @cached_property
    def all(self) -> dict[int, Residual]:
        """Residual adds by the add's node."""
        found: dict[int, Residual] = {}
        for node in self.flow.nodes:
            if node.op in _ADDS and (residual := self._residual(node.index, found)):
                found[node.index] = residual
        return found

    def _residual(self, add: int, before: Mapping[int, Residual]) -> Residual | None:
        data = self._operands(add)
        if len(data) != 2 or data[0] == data[1]:
            return None
        for early, branch in (sorted(data), sorted(data, reverse=True)):
            for stream in self._streams(early, branch, before):
                if self._is_branch(branch, stream):
                    return Residual(add, stream, branch)
            for stream in self._shortcut(early) if self.flow.size(early) == self.flow.size(branch) else ():
                if self._is_branch(branch, stream, deep=True):
                    return Residual(add, stream, branch)
        return None

    def _operands(self, add: int) -> tuple[int, ...]:
        """What an add adds up: features, or a feature and the learnt queries that a first layer starts from."""
        data = self.flow.data(add)
        if len(data) == 1:
            size = self.flow.size(add)
            data += tuple(s for s in self.flow.inputs(add) if self.flow.learnt[s] and self.flow.size(s) == size)
        return data

    def _is_branch(self, branch: int, stream: int, *, deep: bool = False) -> bool:
        """Whether `branch` was computed from `stream`, and has learnt something on the way.

        `q * cos + rotated(q) * sin` has no projection on the way. Where `deep`, two and an activation are asked for:
        `linear(x) + up(down(x))` is an adapter beside its layer.
        """
        if stream == branch or not self.flow.depends(branch, on=stream):
            return False
        inside = self.inside(branch, stream)
        learnt = inside & self.flow.projections.keys()
        if not deep:
            return bool(learnt)
        return len(learnt) > 1 and any(self.flow.op(node) in _BENDING for node in inside)

    def inside(self, branch: int, stream: int) -> set[int]:
        """The nodes on the ways from a stream to the end of a branch."""
        before = self.flow.backward([branch], lambda node: node > stream)
        return self.flow.forward([stream], lambda node: node in before) - {stream}

    def _streams(self, start: int, branch: int, before: Mapping[int, Residual]) -> Iterator[int]:
        """Values that `start` is made of, from which a branch may have left: nearest first.

        Before it was reshaped or normalised, before the branches in parallel that were added to it, and, where the
        two are of one size, before it was cut and joined. A part of a projection's result is no stream.
        """
        whole = self.flow.size(start)
        apart = whole == self.flow.size(branch)
        waiting, seen, steps = [start], {start}, 0
        while waiting:
            node = waiting.pop(0)
            if node not in self.flow.projections or self.flow.size(node) == whole:
                yield node
            following = (before[node].stream,) if node in before else self._made_of(node, apart=apart)
            if self.flow.op(node) in ops.SUMS and len(self.flow.data(node)) > 1:
                steps += 1
                following = following if steps <= _IN_PARALLEL else ()
            fresh = [source for source in following if source not in seen]
            seen.update(fresh)
            waiting.extend(fresh)

    def _made_of(self, node: int, *, apart: bool) -> tuple[int, ...]:
        if node in self.flow.projections:
            return ()
        if node in norms(self.flow):
            return (norms(self.flow)[node],)
        data = self.flow.data(node)
        if self.flow.op(node) in ops.SHAPE and len(data) == 1:
            return data if apart or self.flow.size(node) == self.flow.size(data[0]) else ()
        if self.flow.op(node) in _POOLED and len(data) == 1:
            return data
        if self.flow.op(node) in ops.PRODUCTS | ops.SUMS and node not in self.flow.projections:
            # A gated, scaled or shifted stream: the larger operand.
            whole = [source for source in data if self.flow.size(source) == self.flow.size(node)]
            return (whole[0],) if len(whole) == 1 else ()
        return data if apart and self.flow.op(node) in ops.CONCATENATIONS else ()

    def _shortcut(self, node: int) -> tuple[int, ...]:
        """What a projection on the skip path reads, normalised or not, where a stream changes its width."""
        while node not in self.flow.projections:
            data = self.flow.data(node)
            if len(data) != 1 or self.flow.op(node) not in _AROUND_A_SHORTCUT:
                return ()
            node = data[0]
        data = self.flow.data(node)
        return (self._unshaped(data[0], ops.SHAPE | _POOLED),) if len(data) == 1 else ()

    def _unshaped(self, node: int, passing: frozenset[str] = ops.SHAPE) -> int:
        """Back over what reshapes all of a value, or pools it."""
        while self.flow.op(node) in passing and len(data := self.flow.data(node)) == 1:
            if self.flow.op(node) in ops.SHAPE and self.flow.size(node) != self.flow.size(data[0]):
                break
            node = data[0]
        return node

    def last_projections(self, residual: Residual, gates: frozenset[Edge]) -> dict[int, list[int]]:
        """The projections whose result reaches the end of a branch, through what scales, sums or activates it.

        Each comes with the way to it. `gates` are the edges on which modulation enters: not followed.
        """
        found: dict[int, list[int]] = {}
        waiting = [(residual.branch, [residual.branch])]
        seen = {residual.branch}
        while waiting:
            node, way = waiting.pop()
            if node in self.flow.projections:
                if not self.flow.is_lookup(node):
                    found[node] = way
                continue
            for source in self._onward(node, gates):
                if source not in seen and source > residual.stream:
                    seen.add(source)
                    waiting.append((source, [*way, source]))
        return found

    def _gated(self, features: tuple[int, ...]) -> tuple[int, ...]:
        """Of the factors of a product the one that is no gate, and no weight of an expert: smaller, or activated.

        Where both are features of one size, and both or none is activated, it is a gated unit itself.
        """
        sizes = [self.flow.size(feature) for feature in features]
        if min(sizes) < max(sizes):
            return (features[sizes.index(max(sizes))],)
        plain = [f for f in features if not self.flow.is_activation(self.flow.behind(f))]
        return (plain[0],) if len(plain) == 1 else ()

    def _onward(self, node: int, gates: frozenset[Edge]) -> tuple[int, ...]:
        op = self.flow.op(node)
        sources = tuple(s for s in self.flow.data(node) if (s, node) not in gates)
        if node in norms(self.flow):
            return (norms(self.flow)[node],)
        if op in ops.SHAPE | ops.PRODUCTS | ops.ACTIVATIONS or op == "sum":
            features = tuple(source for source in sources if self.flow.hidden[source])
            if len(features) < 2:
                return features
            return self._gated(features)
        if (op in ops.SUMS or op in ops.JOINS) and node not in self.all:
            return sources
        return ()
