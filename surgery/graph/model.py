"""A model as data: its module tree, the ops of one recorded run, and facts about both. Needs no torch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from math import prod
from typing import Any, Literal, TypeAlias, overload

Answer: TypeAlias = Literal["yes", "no", "unknown"]
InitValue: TypeAlias = Literal["zero", "constant", "identity", "random", "loaded", "unknown"]

ROLES: dict[str, str] = {
    "modulation": "scales, shifts or gates a hidden stream, and does nothing else",
    "conditioning": "reaches the output only through modulation",
    "attention_query": "makes the queries of an attention",
    "attention_key": "makes the keys of an attention",
    "attention_value": "makes the values of an attention",
    "attention_qkv": "makes queries, keys and values in one projection",
    "attention_output": "projects the result of an attention",
    "feedforward_in": "first linear (gates included) of a feed-forward branch",
    "feedforward_out": "last linear of a feed-forward branch",
    "residual_output": "last linear before a branch is added to the residual stream",
    "output_head": "its output is the model's output, up to shape ops",
    "input_embedding": "first projection or embedding of a content input",
    "router": "decides which expert runs, or with what weight",
    "norm": "normalises the stream",
}


@dataclass(frozen=True, slots=True)
class Fact:
    """A three-valued answer with its evidence. Has no truth value: unknown is never treated as no."""

    answer: Answer
    evidence: str = ""

    def __bool__(self) -> bool:
        raise TypeError("a Fact is yes, no or unknown: compare its `answer`")


NO = Fact("no")


@dataclass(frozen=True, slots=True)
class Init:
    """How the model's own code made a parameter's first value, and the `file:line` that did."""

    value: InitValue
    place: str | None = None


@dataclass(frozen=True, slots=True)
class Parameter:
    """A parameter as its module holds it. `storage` numbers what it shares with others (the alias set)."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    init: Init
    storage: int

    @property
    def numel(self) -> int:
        return prod(self.shape)

    @property
    def is_bias(self) -> bool:
        return "bias" in self.name.lower()


@dataclass(frozen=True, slots=True)
class Block:
    """The repeated family a module lies in (`transformer_blocks.*`) and which of it (counted from 0)."""

    family: str
    index: int


@dataclass(frozen=True)
class Module:
    """One module of the tree with its facts.

    `kind` is its class name, `bases` the class and its ancestors below `torch.nn.Module`.
    `numbers` are its integer attributes that describe its size (`in_features`, `groups`, ...).
    `calls` counts how often its forward ran. `tied` lists the other paths that share its storage.
    `roles` maps each role to its evidence; `unknown_roles` those that could not be decided, to why.
    `role_parameters` names, where a module holds several weights (fused experts), those that have a role.
    """

    path: str
    kind: str
    bases: tuple[str, ...]
    parameters: tuple[Parameter, ...] = ()
    numbers: Mapping[str, int] = field(default_factory=dict)
    calls: int = 0
    unreached: Fact = NO
    bypassed: Fact = NO
    gradient: Fact = Fact("unknown")
    tied: tuple[str, ...] = ()
    block: Block | None = None
    roles: Mapping[str, str] = field(default_factory=dict)
    unknown_roles: Mapping[str, str] = field(default_factory=dict)
    role_parameters: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def parameter(self, name: str) -> Parameter | None:
        for parameter in self.parameters:
            if parameter.name == name:
                return parameter
        return None

    @property
    def weight(self) -> Parameter | None:
        return self.parameter("weight")

    @property
    def weights(self) -> tuple[Parameter, ...]:
        """Its matrices and stacks of matrices, biases aside."""
        return tuple(p for p in self.parameters if len(p.shape) > 1 and not p.is_bias)

    @property
    def init(self) -> Mapping[str, Init]:
        return {p.name: p.init for p in self.parameters}


@dataclass(frozen=True, slots=True)
class Node:
    """One op of the recorded run, in execution order.

    `op` is the function's name (`linear`, `add`, `chunk`), or `input`, `parameter`, `constant`, `output`.
    `module` is the innermost module that was running, `inputs` the nodes it reads, in argument order.
    `target` names the input or the parameter (its full path). `arguments` are its scalar arguments,
    `shape` the result's shape (of the first tensor, where there are several), `place` the model's line.
    """

    index: int
    op: str
    module: str
    inputs: tuple[int, ...]
    arguments: tuple[Any, ...] = ()
    target: str = ""
    shape: tuple[int, ...] = ()
    dtype: str = ""
    place: str = ""
    cut: bool = False  # ran under no_grad, or detaches: no gradient passes


class LazyNodes(Sequence[Node]):
    """The ops of a file, decoded when the first is asked for: most plans need the facts only."""

    def __init__(self, decode: Callable[[], tuple[Node, ...]]) -> None:
        self._decode = decode

    @cached_property
    def _all(self) -> tuple[Node, ...]:
        return self._decode()

    @overload
    def __getitem__(self, index: int) -> Node: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Node, ...]: ...
    def __getitem__(self, index: int | slice) -> Node | tuple[Node, ...]:
        return self._all[index]

    def __len__(self) -> int:
        return len(self._all)

    def __iter__(self) -> Iterator[Node]:
        return iter(self._all)


@dataclass(frozen=True)
class Header:
    """Where a graph came from. `model` and `settings` are the spec's, as text; `versions` by package."""

    model: str = ""
    settings: str = ""
    versions: Mapping[str, str] = field(default_factory=dict)
    inputs: str = ""


@dataclass(frozen=True, eq=False)
class Graph:
    """Modules by path, in the order of `named_modules`, and the ops of one run. Compared by fingerprint."""

    header: Header
    modules: Mapping[str, Module]
    nodes: Sequence[Node]

    def __getitem__(self, path: str) -> Module:
        return self.modules[path]

    def __contains__(self, path: object) -> bool:
        return path in self.modules

    def __iter__(self) -> Iterator[str]:
        return iter(self.modules)

    def __len__(self) -> int:
        return len(self.modules)

    def parameter(self, path: str) -> Parameter | None:
        """The parameter of this full path: that of the module that holds it, and its name in it."""
        holder, _, name = path.rpartition(".")
        return self.modules[holder].parameter(name) if holder in self.modules else None

    def holder(self, path: str) -> Module:
        """The module at a path, or the one that holds the parameter of this full path."""
        return self.modules[path] if path in self.modules else self.modules[path.rpartition(".")[0]]

    @cached_property
    def holders_of_storage(self) -> Mapping[int, int]:
        """How many parameters have each storage: more than one where they are tied."""
        return Counter(p.storage for module in self.modules.values() for p in module.parameters)

    @cached_property
    def parameters(self) -> int:
        """How many numbers the model's parameters hold; shared storage counts once."""
        sizes = {p.storage: p.numel for module in self.modules.values() for p in module.parameters}
        return sum(sizes.values())

    @cached_property
    def children(self) -> Mapping[str, tuple[str, ...]]:
        """The direct children of every module, by path, in order."""
        found: dict[str, list[str]] = {path: [] for path in self.modules}
        for path in self.modules:
            if path:
                found.setdefault(path.rpartition(".")[0], []).append(path)
        return {path: tuple(children) for path, children in found.items()}

    @cached_property
    def fingerprint(self) -> str:
        """`sha256:...` over modules, ops and facts; versions do not enter it."""
        from surgery.graph.file import fingerprint

        return fingerprint(self)

    def save(self, path: Any) -> None:
        """Write the graph to a `*.graph.json` file, replacing it in one step. Raises SurgeryError (E0514)."""
        from surgery.graph.file import write_graph

        write_graph(self, path)


def is_inside(path: str, ancestor: str) -> bool:
    """Whether `path` lies strictly below `ancestor` in the module tree."""
    return path != ancestor and (not ancestor or path.startswith(ancestor + "."))
