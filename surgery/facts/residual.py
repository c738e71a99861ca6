"""Residual adds: where a branch joins the stream it came from."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from surgery.facts import ops
from surgery.facts.flow import Edge, Flow
from surgery.facts.norms import norms


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
        found = {}
        for node in self.flow.nodes:
            if node.op in ("add", "sub") and (residual := self._residual(node.index)):
                found[node.index] = residual
        return found

    def _residual(self, add: int) -> Residual | None:
        data = self.flow.data(add)
        if len(data) != 2:
            return None
        early, late = sorted(data)
        stream = self._as_stream(early)
        if not self.flow.depends(late, on=stream) or late == early:
            return None
        # The branch has to have learnt something: `q * cos + rotated(q) * sin` has no projection inside.
        inside = self.flow.backward([late], lambda node: node > stream)
        if not any(node in self.flow.projections for node in inside):
            return None
        return Residual(add, early, late)

    def _as_stream(self, node: int) -> int:
        """Back over what only reshapes: the branch may have left before it."""
        while self.flow.op(node) in ops.SHAPE and len(self.flow.data(node)) == 1:
            node = self.flow.data(node)[0]
        return node

    def last_projections(self, branch: int, gates: frozenset[Edge]) -> dict[int, list[int]]:
        """The projections whose result reaches the end of a branch, through what scales or sums it.

        Each comes with the way to it. `gates` are the edges on which modulation enters: not followed.
        """
        found: dict[int, list[int]] = {}
        waiting = [(branch, [branch])]
        seen = {branch}
        while waiting:
            node, way = waiting.pop()
            if node in self.flow.projections:
                found[node] = way
                continue
            for source in self._onward(node, gates):
                if source not in seen:
                    seen.add(source)
                    waiting.append((source, [*way, source]))
        return found

    def _onward(self, node: int, gates: frozenset[Edge]) -> tuple[int, ...]:
        op = self.flow.op(node)
        sources = tuple(s for s in self.flow.data(node) if (s, node) not in gates and self.flow.is_float(s))
        if node in norms(self.flow):
            return (norms(self.flow)[node],)
        if op in ops.SHAPE or op in ops.PRODUCTS:
            features = tuple(source for source in sources if self.flow.hidden[source])
            if len(features) < 2:
                return features
            # A product of two features of one size is a gated unit; a smaller one is the weight of an expert.
            sizes = [self.flow.size(feature) for feature in features]
            return (features[sizes.index(max(sizes))],) if min(sizes) < max(sizes) else ()
        if (op in ops.SUMS or op in ops.JOINS) and node not in self.all:
            return sources
        return ()
