"""Modulation and conditioning.

A projection is modulation when its output, through shape and scalar ops and sums with tables or other
modulation, scales or gates a hidden stream (Peebles and Xie, "Scalable Diffusion Models with Transformers",
arXiv 2212.09748: AdaLN-Zero; Perez et al., arXiv 1709.07871: FiLM), and reaches the output in no other way.
Conditioning is what reaches the output only through modulation.

The search starts from every projection that has the shape of a modulator and takes away those that turn
out to reach the output otherwise, or to be computed from the very stream they multiply, until none is left
to take away.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from functools import cached_property
from math import prod

from surgery.facts import ops
from surgery.facts.flow import Edge, Flow
from surgery.facts.norms import follows_norm

# What a modulator may pass between its projection and the stream.
_PASSES = ops.SHAPE | ops.ACTIVATIONS - {"glu"} | ops.UNARY - {"sin", "cos"}
# Several modulators to one.
_GATHERS = ops.SUMS | ops.CONCATENATIONS | {"where"}
_GATHERS_OR_SHAPES = _GATHERS | ops.SHAPE


@dataclass(frozen=True)
class Use:
    """One place where a modulator acts: the edge on which it enters, the stream, and the way there."""

    edge: Edge
    stream: int
    scales: bool
    way: tuple[int, ...]


class Modulation:
    """The modulators of a graph: `modulators` by projection node, `gates` the edges on which they act."""

    def __init__(self, flow: Flow, streams: Collection[int]) -> None:
        """`streams` are the residual adds: no modulator is made by one."""
        self.flow = flow
        self.streams = streams

    @cached_property
    def gates(self) -> frozenset[Edge]:
        return frozenset(use.edge for uses in self.modulators.values() for use in uses)

    @cached_property
    def modulators(self) -> dict[int, list[Use]]:
        """The greatest set of candidates that act on streams only, each with its uses."""
        kept = self._candidates()
        while True:
            gates = frozenset(use.edge for uses in kept.values() for use in uses)
            to_output = self.flow.backward(self.flow.outputs, without=gates)
            wrong = (kept.keys() & to_output) | self._on_their_own_stream(kept, gates)
            if not wrong:
                return kept
            kept = {projection: uses for projection, uses in kept.items() if projection not in wrong}

    @cached_property
    def conditioning(self) -> set[int]:
        """Nodes that reach the output, but only through modulation."""
        return self.flow.reaching - self.flow.backward(self.flow.outputs, without=self.gates)

    def roles(self) -> Iterable[tuple[str, str, str]]:
        """(module, role, evidence) of modulation and conditioning."""
        for projection, uses in self.modulators.items():
            use = next((use for use in uses if use.scales), uses[0])
            path = self.flow.path([*self._before(projection), *use.way])
            onto = self.flow.op(self.flow.behind(use.stream))
            yield self.flow.projections[projection], "modulation", f"{path}({onto}); {self.flow.place(use.edge[1])}"
        modulating = {self.flow.projections[projection] for projection in self.modulators}
        for path, nodes in self._work_of_modules().items():
            if nodes and path not in modulating and nodes <= self.conditioning:
                after = self.flow.forward(nodes)
                by = next((self.flow.projections[m] for m in self.modulators if m in after), path)
                how = f"reaches the output only through modulation, by {self.flow.named(by)}"
                yield path, "conditioning", how

    def _work_of_modules(self) -> dict[str, set[int]]:
        """For each module with parameters that are read: the ops that read them or ran in it, and reach the output."""
        found: dict[str, set[int]] = {}
        for node in self.flow.nodes:
            owner, _, name = node.target.rpartition(".") if node.op == "parameter" else ("", "", "")
            if owner and self.flow.graph.modules[owner].parameter(name):
                found.setdefault(owner, set()).update(self.flow.reaching.intersection(self.flow.users[node.index]))
        for index in self.flow.reaching:
            path = self.flow.nodes[index].module
            while path:
                if path in found:
                    found[path].add(index)
                path = path.rpartition(".")[0]
        return found

    def _before(self, projection: int) -> list[int]:
        """What a projection reads, so that evidence shows `silu -> linear`."""
        return [source for source in self.flow.data(projection) if self.flow.op(source) in ops.ACTIVATIONS]

    # --- candidates -----------------------------------------------------------------------

    def _candidates(self) -> dict[int, list[Use]]:
        found = {p: uses for p in self.flow.projections if (uses := list(self._uses(p)))}
        scaling = {p for p, uses in found.items() if any(use.scales for use in uses)}
        # A shift alone counts only on a norm or on what is scaled, and where the same conditioning scales elsewhere.
        sources = {self._source(projection) for projection in scaling}
        scaled = {use.edge[1] for projection in scaling for use in found[projection] if use.scales}
        return {
            projection: uses
            for projection, uses in found.items()
            if projection in scaling
            or (
                self._source(projection) in sources
                and all(follows_norm(self.flow, use.stream) or self.flow.behind(use.stream) in scaled for use in uses)
            )
        }

    def _uses(self, projection: int) -> Iterable[Use]:
        """The places where a projection's output scales, gates or shifts something larger or something it is not."""
        waiting: list[tuple[int, tuple[int, ...]]] = [(projection, (projection,))]
        seen = {projection}
        while waiting:
            node, way = waiting.pop()
            for user in self.flow.users[node]:
                if use := self._use(node, user, way):
                    yield use
                elif self._passes(node, user) and user not in seen:
                    seen.add(user)
                    waiting.append((user, (*way, user)))

    def _passes(self, node: int, user: int) -> bool:
        """Whether `user` hands the modulator `node` on: reshapes it, scales it by a number or adds a table."""
        op = self.flow.op(user)
        data = self.flow.data(user)
        if op in _PASSES:
            return set(data) == {node}
        if op in ops.PRODUCTS:
            return len(data) == 1
        # One term: the other is a number or a table of parameters. Several: a sum of modulators, or a choice.
        return op in _GATHERS and (len(data) == 1 or self._straight[user])

    @cached_property
    def _straight(self) -> list[bool]:
        """Whether a node only gathers what projections made: sums of modulators, not sums along a stream."""
        found: list[bool] = []
        for node in self.flow.nodes:
            data = self.flow.data(node.index)
            gathers = node.op in _GATHERS_OR_SHAPES or (node.op in ops.PRODUCTS | _PASSES and len(data) == 1)
            gathers &= node.index not in self.streams
            found.append(
                node.index in self.flow.projections or (gathers and bool(data) and all(found[s] for s in data))
            )
        return found

    def _use(self, node: int, user: int, way: tuple[int, ...]) -> Use | None:
        """How `user` uses the modulator `node`: None where it is no product or sum with a stream."""
        op = self.flow.op(user)
        data = self.flow.data(user)
        if len(data) != 2 or data[0] == data[1] or op not in ops.PRODUCTS | ops.SUMS:
            return None
        stream = data[1] if data[0] == node else data[0]
        return self._acting(node, stream, user, way, scales=op in ops.PRODUCTS)

    def _acting(self, node: int, stream: int, user: int, way: tuple[int, ...], *, scales: bool) -> Use | None:
        if not self.flow.hidden[stream]:
            return None
        use = Use((node, user), stream, scales, (*way, user))
        mine, its = self.flow.size(node), self.flow.size(stream)
        if mine < its:
            return use
        if mine > its:
            return None
        if scales:
            acts = follows_norm(self.flow, stream) and not follows_norm(self.flow, node)
            return use if acts or self._gates_a_branch(node, stream, user) else None
        return use if follows_norm(self.flow, stream) or self._is_scaled_norm(stream) else None

    def _is_scaled_norm(self, node: int) -> bool:
        """Whether a node is `norm(x) * scale`, to which a shift is added."""
        return self.flow.op(node) in ops.PRODUCTS and any(
            follows_norm(self.flow, source) for source in self.flow.data(node)
        )

    def _gates_a_branch(self, node: int, stream: int, product: int) -> bool:
        """Whether the product is added to a stream from which the other factor was computed, but not this one."""
        waiting = [product]
        while waiting:
            source = waiting.pop()
            for user in self.flow.users[source]:
                masked = self.flow.op(user) in ops.PRODUCTS and len(self.flow.data(user)) == 1
                if self.flow.op(user) in ops.SHAPE or masked:
                    waiting.append(user)
                elif self.flow.op(user) == "add":
                    bases = [self.flow.behind(base) for base in self.flow.data(user) if base != source]
                    if any(self.flow.depends(stream, b) and not self.flow.depends(node, b) for b in bases):
                        return True
        return False

    # --- what disqualifies ----------------------------------------------------------------

    def _on_their_own_stream(self, kept: dict[int, list[Use]], gates: frozenset[Edge]) -> set[int]:
        """Projections computed, position by position or by pooling, from the stream they multiply."""
        reached: dict[tuple[int, frozenset[int]], set[int]] = {}
        wrong = set()
        for projection, uses in kept.items():
            source = self._source(projection)
            for use in uses:
                key = (source, self._counts(use.stream))
                if key not in reached:
                    reached[key] = self._aligned_reach(*key, gates)
                if use.stream in reached[key]:
                    wrong.add(projection)
        return wrong

    def _aligned_reach(self, source: int, counts: frozenset[int], gates: frozenset[Edge]) -> set[int]:
        """What is computed from those ancestors of a source that are features of as many positions as the stream."""
        before = self.flow.backward([source], without=gates)
        aligned = [n for n in before if self._positions(n) in counts and self.flow.hidden[n]]
        return self.flow.forward(aligned, without=gates)

    def _source(self, projection: int) -> int:
        """What a projection reads, back over shape ops and activations: shared by all of one conditioning."""
        node = next((s for s in self.flow.data(projection)), projection)
        while len(data := self.flow.data(node)) == 1 and self.flow.op(node) in ops.SHAPE | ops.ACTIVATIONS:
            node = data[0]
        return node

    def _counts(self, stream: int) -> frozenset[int]:
        """The numbers of positions that what the stream came from may have: fewer, where heads are apart."""
        shape = self.flow.nodes[stream].shape
        heads = shape[1:-1] if len(shape) == 4 else ()
        return frozenset(self._positions(stream) // size for size in (1, *heads) if size)

    def _positions(self, node: int) -> int:
        """How many positions a tensor has: its size but for its last dimension."""
        return prod(self.flow.nodes[node].shape[:-1])
