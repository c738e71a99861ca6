"""Projections into and out of attentions.

An attention is a fused op (`scaled_dot_product_attention` and the like), `multi_head_attention_forward`, or
a softmax of a product of two features, multiplied with a third (Vaswani et al., arXiv 1706.03762).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from functools import cached_property

from surgery.facts import ops
from surgery.facts.flow import Flow

_INPUTS = ("attention_query", "attention_key", "attention_value")
_MULTI_HEAD_ROLES = {
    "in_proj_weight": "attention_qkv",
    "q_proj_weight": "attention_query",
    "k_proj_weight": "attention_key",
    "v_proj_weight": "attention_value",
    "out_proj_weight": "attention_output",
}
# Between the product of query and key and its softmax: scales, masks, biases, soft caps.
_ON_SCORES = ops.SHAPE | ops.SUMS | ops.PRODUCTS | ops.JOINS | {"tanh", "where", "maximum", "max"}


# Between a projection and the attention that it feeds: rotations, norms written out or fused, no activation.
_BEFORE = ops.SHAPE | ops.NORMS | ops.SUMS | ops.PRODUCTS | ops.UNARY | ops.POOLS | ops.JOINS | {"where", "polar"}
# Between an attention's result and its output projection; a product of matrices where landmarks stand for tokens.
_AFTER = ops.SHAPE | ops.NORMS | ops.JOINS | ops.PRODUCTS | ops.ACTIVATIONS | ops.PRODUCTS_OF_MATRICES


@dataclass(frozen=True)
class Attention:
    """The nodes of one attention: its three inputs and its result, and the op to name it by."""

    query: int
    key: int
    value: int
    result: int
    op: int


class Attentions:
    """The attentions of a graph and the projections around them."""

    def __init__(self, flow: Flow, streams: Collection[int]) -> None:
        """`streams` are the residual adds: no projection's result comes through one."""
        self.flow = flow
        self.streams = streams

    @cached_property
    def all(self) -> list[Attention]:
        found = []
        for node in self.flow.nodes:
            if node.op in ops.FUSED_ATTENTION and len(node.inputs) >= 3:
                query, key, value = node.inputs[:3]
                found.append(Attention(query, key, value, node.index, node.index))
            elif node.op in ops.SOFTMAX and (attention := self._written_out(node.index)):
                found.append(attention)
        return found

    def _written_out(self, softmax: int) -> Attention | None:
        scores = self._product(softmax)
        if scores is None:
            return None
        query, key = self._factors(scores)[:2]
        for node, source in self._onward(softmax):
            others = [s for s in self._factors(node) if s != source]
            if self.flow.op(node) in ops.PRODUCTS_OF_MATRICES and others:
                return Attention(query, key, others[0], node, softmax)
        return None

    def _product(self, softmax: int) -> int | None:
        """The product of two features whose softmax this is.

        Of several (positions have their own, added to the tokens'), one whose factors both come from an input.
        """
        waiting = list(self.flow.data(softmax))
        seen = set(waiting)
        found: list[int] = []
        while waiting:
            node = waiting.pop()
            if self.flow.op(node) in ops.PRODUCTS_OF_MATRICES and len(self._factors(node)) >= 2:
                found.append(node)
            elif self.flow.op(node) in _ON_SCORES:
                fresh = [s for s in self.flow.data(node) if s not in seen]
                seen.update(fresh)
                waiting.extend(fresh)
        return max(found, key=lambda node: sum(map(self.flow.given.__getitem__, self._factors(node))), default=None)

    def _factors(self, node: int) -> list[int]:
        """The features that a product of matrices multiplies."""
        inputs = self.flow.inputs(node)[1 if self.flow.op(node) in ops.ADDED_PRODUCTS else 0 :]
        return [source for source in inputs if self.flow.hidden[source]]

    def _onward(self, node: int) -> Iterator[tuple[int, int]]:
        """The nodes that read the probabilities, past what only reshapes or drops some of them, and what they read."""
        waiting = [node]
        while waiting:
            source = waiting.pop()
            for user in self.flow.users[source]:
                if self.flow.op(user) in ops.SHAPE | ops.SUMS | ops.PRODUCTS:
                    waiting.append(user)
                else:
                    yield user, source

    # --- roles ----------------------------------------------------------------------------

    def roles(self) -> Iterator[tuple[str, str, str]]:
        """(module, role, evidence) for the projections around every attention."""
        for attention in self.all:
            yield from self._roles_in(attention)
            for projection, way in self._out_of(attention.result):
                path = self.flow.path([attention.op, *way])
                yield self.flow.projections[projection], "attention_output", f"{path}; {self.flow.place(projection)}"
        yield from self._multi_head()

    def _roles_in(self, attention: Attention) -> Iterator[tuple[str, str, str]]:
        made: dict[int, list[str]] = {}
        for role, node in zip(_INPUTS, (attention.query, attention.key, attention.value), strict=True):
            for projection in self._sources(node):
                made.setdefault(projection, []).append(role)
        # A module may hold the weights of several projections.
        by_owner: dict[str, dict[str, int]] = {}
        for projection, roles in self._without_down_projections(made).items():
            by_owner.setdefault(self.flow.projections[projection], {}).update(dict.fromkeys(roles, projection))
        for owner, found in by_owner.items():
            for role, projection in found.items():
                how = f"{self.flow.word(projection)} -> {self.flow.word(attention.op)}; {self.flow.place(attention.op)}"
                yield owner, "attention_qkv" if len(found) == 3 else role, how

    def _without_down_projections(self, made: dict[int, list[str]]) -> dict[int, list[str]]:
        """Of projections in a row (low-rank attention), the last: a down-projection carries no role."""
        feeding = {
            source
            for projection in made
            for data in self.flow.data(projection)
            for source in self._sources(data)
            if source in made
        }
        return {projection: roles for projection, roles in made.items() if projection not in feeding}

    def _sources(self, start: int) -> set[int]:
        """The projections that a query, key or value comes from.

        Followed back through shape ops, rotations, norms, joins and sums (a layer with an adapter beside it); not
        through a residual add or a product of two different projections' results.
        """
        if start not in self._source_cache:
            self._source_cache[start] = self._trace(start)
        return self._source_cache[start]

    @cached_property
    def _source_cache(self) -> dict[int, set[int]]:
        return {}

    def _trace(self, start: int) -> set[int]:
        node = start
        while node not in self.flow.projections:
            op = self.flow.op(node)
            features = list(dict.fromkeys(source for source in self.flow.data(node) if self.flow.hidden[source]))
            if not features or op not in _BEFORE or node in self.streams:
                return set()
            if op in ops.PRODUCTS:
                # What is scaled by a smaller feature is still the projection's result.
                largest = max(map(self.flow.size, features))
                features = [source for source in features if self.flow.size(source) == largest]
            if len(features) > 1:
                parts = [self._sources(source) for source in features]
                if op in ops.JOINS or (op in ops.SUMS and node not in self.streams and all(parts)):
                    return set().union(*parts)
                return parts[0] if all(part == parts[0] for part in parts) else set()
            node = features[0]
        return {node}

    def _out_of(self, result: int) -> Iterator[tuple[int, list[int]]]:
        """The first projections that read an attention's result, past shapes, norms, gates and sums of several."""
        waiting: list[tuple[int, list[int]]] = [(result, [])]
        seen = {result}
        while waiting:
            node, way = waiting.pop()
            for user in self.flow.users[node]:
                if user in seen:
                    continue
                seen.add(user)
                op = self.flow.op(user)
                if user in self.flow.projections:
                    yield user, [*way, user]
                elif op in _AFTER or (op in ops.SUMS and user not in self.streams):
                    waiting.append((user, [*way, user]))

    def _multi_head(self) -> Iterator[tuple[str, str, str]]:
        """`multi_head_attention_forward` is handed all weights: `nn.MultiheadAttention` and what copies it."""
        for node in self.flow.nodes:
            if node.op == ops.MULTI_HEAD:
                for argument, owner in self.flow.multi_head_owners(node).items():
                    if role := _MULTI_HEAD_ROLES.get(argument):
                        yield owner, role, f"{argument} of {ops.MULTI_HEAD}; {node.place}"
