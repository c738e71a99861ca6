"""The op graph as the analyses walk it: who reads whom, what is a projection, which module owns it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from functools import cached_property
from math import prod

from surgery.facts import ops
from surgery.graph import Graph, Node

Edge = tuple[int, int]  # a node and the node that reads it

_BLANKS = {"zeros", "zeros_like", "new_zeros"}
_PICKING = {"getitem", "index_select"}
_LOOKUPS = _PICKING | {"embedding", "embedding_bag"}
_LAYERS = {"linear"} | ops.CONVOLUTIONS


class Flow:
    """Nodes with their users and some properties that every analysis asks for.

    Nodes are named by their index; indices are in execution order, so a node's inputs come before it.
    """

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.nodes = tuple(graph.nodes)
        self.users: list[list[int]] = [[] for _ in graph.nodes]
        for node in graph.nodes:
            for source in dict.fromkeys(node.inputs):
                self.users[source].append(node.index)

    def op(self, index: int) -> str:
        return self.nodes[index].op

    def inputs(self, index: int) -> tuple[int, ...]:
        return self.nodes[index].inputs

    @cached_property
    def outputs(self) -> tuple[int, ...]:
        """The nodes whose values the model returns."""
        return tuple(source for node in self.nodes if node.op == "output" for source in node.inputs)

    @cached_property
    def static(self) -> list[bool]:
        """Whether a node depends on parameters, buffers and constants alone.

        What a layer makes of a parameter (a learnt query) is a feature.
        """
        found: list[bool] = []
        for node in self.nodes:
            static = node.op != "input" and all(found[source] for source in node.inputs)
            layer = node.op in _LAYERS and len(node.inputs) > 1 and all(self.learnt[s] for s in node.inputs[:2])
            found.append(static and not layer)
        return found

    @cached_property
    def given(self) -> list[bool]:
        """Whether a node depends on an input of the model."""
        found: list[bool] = []
        for node in self.nodes:
            found.append(node.op == "input" or any(found[source] for source in node.inputs))
        return found

    @cached_property
    def learnt(self) -> list[bool]:
        """Whether a node is made of parameters, and of constants beside them; zeros stand for what is learnt later."""
        found: list[bool] = []
        for node in self.nodes:
            made = self.is_parameter(node) if node.op == "parameter" else any(found[s] for s in node.inputs)
            found.append((made and not self.given[node.index]) or node.op in _BLANKS)
        return found

    def is_parameter(self, node: Node) -> bool:
        """Whether a node reads a parameter, and no buffer."""
        owner, _, name = node.target.rpartition(".")
        module = self.graph.modules.get(owner)
        return module is not None and module.parameter(name) is not None

    @cached_property
    def _from_parameter(self) -> list[bool]:
        found: list[bool] = []
        for node in self.nodes:
            found.append(node.op == "parameter" or any(found[source] for source in node.inputs))
        return found

    @cached_property
    def projections(self) -> dict[int, str]:
        """The nodes that multiply an activation with a parameter, each with the module that owns it."""
        found = {}
        for node in self.nodes:
            owner = self._projection_owner(node)
            if owner is not None:
                found[node.index] = owner
        return found

    def _projection_owner(self, node: Node) -> str | None:
        if node.op == ops.MULTI_HEAD:
            return self.multi_head_owners(node).get("out_proj_weight")
        if node.op in _PICKING and self._looks_up(node):
            return next(self._owners(node.inputs[0]), None)
        if node.op not in ops.PROJECTIONS and node.op not in ops.PRODUCTS_OF_MATRICES:
            return None
        weights, starts_here = self._weights(node), self._starts_here(node)
        if not weights or (not starts_here and all(self.static[s] or s in weights for s in node.inputs)):
            return None
        owners = {owner for weight in weights for owner in self._owners(weight)}
        return next(iter(owners)) if len(owners) == 1 and node.module not in owners else node.module

    def _starts_here(self, node: Node) -> bool:
        """Whether a layer is applied to an activation, not to what is made of parameters alone."""
        return node.op in _LAYERS and not self.static[node.index]

    def _weights(self, node: Node) -> list[int]:
        """The inputs of an op that are weights. A bias, or several joined to one, has one dimension."""
        given = node.inputs[1:] if self._starts_here(node) else node.inputs
        return [s for s in given if self._is_weight(s) and len(self.nodes[s].shape) > 1]

    def parameters_of(self, projection: int) -> tuple[str, ...]:
        """The names, within the module that owns a projection, of the parameters that it multiplies by."""
        owner = self.projections[projection]
        sources = self.backward(self._weights(self.nodes[projection]))
        read = [self.nodes[s].target.rpartition(".") for s in sorted(sources) if self.op(s) == "parameter"]
        return tuple(dict.fromkeys(name for holder, _, name in read if holder == owner))

    def _looks_up(self, node: Node) -> bool:
        """Whether rows of a table are picked by what comes from an input: an embedding that is written out."""
        table, *index = node.inputs
        rows = [source for source in index if not self.static[source] and self.nodes[source].shape]
        return bool(rows) and len(self.nodes[table].shape) == 2 and self.learnt[table]

    def _is_weight(self, node: int) -> bool:
        """Whether a node is made of parameters alone, or is a part of one that an index picked (an expert's)."""
        while self.op(node) in ops.SHAPE and not self.static[node]:
            node = self.inputs(node)[0]
        return self.static[node] and self._from_parameter[node]

    def _owners(self, weight: int) -> Iterator[str]:
        """The modules whose parameters a static node was made from; a parametrisation's own module."""
        for source in self.backward([weight]):
            if self.op(source) == "parameter":
                for holder in self.holders(self.nodes[source].target):
                    yield holder.partition(".parametrizations.")[0]

    def multi_head_owners(self, node: Node) -> dict[str, str]:
        """The modules whose weights `multi_head_attention_forward` was handed, by the name of the argument."""
        names: list[str] = next((a[1] for a in node.arguments if isinstance(a, list) and a[0] == ops.TENSOR_NAMES), [])
        return {
            name: self.nodes[source].target.rpartition(".")[0]
            for name, source in zip(names, node.inputs, strict=False)
            if self.op(source) == "parameter"
        }

    def holders(self, parameter: str) -> tuple[str, ...]:
        """The modules that hold a parameter or buffer, by its full name: several where it is tied."""
        owner, _, name = parameter.rpartition(".")
        module = self.graph.modules.get(owner)
        held = module.parameter(name) if module else None
        return self.holders_by_storage[held.storage] if held else (owner,)

    @cached_property
    def holders_by_storage(self) -> dict[int, tuple[str, ...]]:
        """The modules that hold each storage; the alias sets where it is more than one."""
        found: dict[int, list[str]] = {}
        for path, module in self.graph.modules.items():
            for parameter in module.parameters:
                found.setdefault(parameter.storage, []).append(path)
        return {storage: tuple(dict.fromkeys(paths)) for storage, paths in found.items()}

    def data(self, index: int) -> tuple[int, ...]:
        """The inputs of a node that are no weights, masks, positions, or tables made of parameters and constants."""
        return self._data[index]

    @cached_property
    def _data(self) -> list[tuple[int, ...]]:
        found = []
        for node in self.nodes:
            sources = tuple(source for source in node.inputs if not self.static[source])
            found.append(tuple(filter(self.is_float, sources)) or sources)
        return found

    @cached_property
    def hidden(self) -> list[bool]:
        """Whether a node depends on a projection: is a feature, not a mask or a position."""
        found: list[bool] = []
        for node in self.nodes:
            made = node.index in self.projections or any(found[source] for source in node.inputs)
            found.append(made and self.is_float(node.index))
        return found

    def size(self, index: int) -> int:
        """How many values a node has."""
        return prod(self.nodes[index].shape)

    def is_float(self, index: int) -> bool:
        return self.nodes[index].dtype.startswith(("float", "bfloat", "complex"))

    def is_lookup(self, index: int) -> bool:
        """Whether a projection picks rows of a table: an embedding, called so or written out."""
        return index in self.projections and self.op(index) in _LOOKUPS

    def is_activation(self, index: int) -> bool:
        return self.op(index) in ops.ACTIVATIONS

    def in_block(self, path: str) -> bool:
        """Whether a module lies in a layer: a numbered module with children; a model without any is one itself."""
        while path and path not in self._layers:
            path = path.rpartition(".")[0]
        return bool(path) or not self._layers

    @cached_property
    def _layers(self) -> set[str]:
        with_children = {path.rpartition(".")[0] for path in self.graph.modules if path}
        return {path for path in with_children if path.rpartition(".")[2].isdecimal()}

    # --- walks ----------------------------------------------------------------------------

    @cached_property
    def reaching(self) -> set[int]:
        """The nodes from which a path leads to an output."""
        return self.backward(self.outputs)

    def behind(self, node: int, passing: Collection[str] = ops.SHAPE) -> int:
        """Back over ops of one value, shapes if not said otherwise, up to a projection."""
        while node not in self.projections and self.op(node) in passing and len(self.data(node)) == 1:
            node = self.data(node)[0]
        return node

    def backward(
        self, starts: Iterable[int], keep: Callable[[int], bool] = lambda _: True, without: Collection[Edge] = ()
    ) -> set[int]:
        """All nodes from which a path leads to one of `starts`, through nodes to `keep`, without some edges."""
        return _closure(
            starts, lambda node: (s for s in self.nodes[node].inputs if keep(s) and (s, node) not in without)
        )

    def forward(
        self, starts: Iterable[int], keep: Callable[[int], bool] = lambda _: True, without: Collection[Edge] = ()
    ) -> set[int]:
        """All nodes to which a path leads from one of `starts`."""
        return _closure(starts, lambda node: (u for u in self.users[node] if keep(u) and (node, u) not in without))

    def depends(self, node: int, on: int) -> bool:
        """Whether `on` is `node` or one of its ancestors. Walks no further back than `on`."""
        if on > node:
            return False
        return on in self.backward([node], lambda source: source >= on)

    # --- words ----------------------------------------------------------------------------

    def shown(self, path: str) -> str:
        """A module's path for evidence, its block's number left out: the same in every block of a family."""
        block = self.graph.modules[path].block
        if block is None:
            return path
        return block.family + path[len(block.family) - 1 + len(str(block.index)) :]

    def named(self, path: str) -> str:
        """A module as a sentence names it."""
        return f"`{self.shown(path)}`" if path else "the model itself"

    def place(self, index: int) -> str:
        return self.nodes[index].place

    def word(self, index: int) -> str:
        """The op as evidence names it: `chunk(6)`, `add(1)`, `linear`."""
        node = self.nodes[index]
        if node.op == "add" and len(node.inputs) == 1:
            return f"add({_number(node)})"
        if node.op in ("chunk", "unbind", "split", "mul", "div") and (number := _number(node)) != "":
            return f"{node.op}({number})"
        return node.op

    def path(self, steps: Iterable[int]) -> str:
        """A way through the ops, in a line; steps that only reshape are left out."""
        quiet = ops.SHAPE - {"chunk", "unbind", "split"}
        words = [self.word(step) for step in steps if self.op(step) not in quiet]
        return " -> ".join(word for word, before in zip(words, ["", *words], strict=False) if word != before)


def _closure(starts: Iterable[int], following: Callable[[int], Iterable[int]]) -> set[int]:
    """`starts` and all that follows from them."""
    found = set(starts)
    waiting = list(found)
    while waiting:
        for node in following(waiting.pop()):
            if node not in found:
                found.add(node)
                waiting.append(node)
    return found


def _number(node: Node) -> str:
    return next((str(a) for a in node.arguments if isinstance(a, (int, float)) and not isinstance(a, bool)), "")
