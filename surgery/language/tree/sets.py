"""Sets of modules and of parameters: selectors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

from surgery.diagnostics import Span
from surgery.language.tree.node import Node

if TYPE_CHECKING:
    from surgery.language.tree.expressions import Expression, Text


@dataclass(frozen=True, eq=False, repr=False)
class Paths(Node):
    """`path(glob, ...)`"""

    globs: tuple[Text, ...]
    span: Span


@dataclass(frozen=True, eq=False, repr=False)
class Parameters(Node):
    """`param(glob, ...)`: parameters by their full path, that of the module and their name in it."""

    globs: tuple[Text, ...]
    span: Span


@dataclass(frozen=True, eq=False, repr=False)
class Word(Node):
    """A bare word in a selector's argument list: a class, a role, an init value."""

    name: str
    span: Span


@dataclass(frozen=True, eq=False, repr=False)
class Kinds(Node):
    """`kind(Linear, ...)`: modules of these classes or of classes derived from them."""

    words: tuple[Word, ...]
    span: Span


@dataclass(frozen=True, eq=False, repr=False)
class Roles(Node):
    """`role(modulation, ...)`"""

    words: tuple[Word, ...]
    span: Span


@dataclass(frozen=True, eq=False, repr=False)
class Inits(Node):
    """`init(zero | constant | random | loaded)`"""

    words: tuple[Word, ...]
    span: Span


@dataclass(frozen=True, eq=False, repr=False)
class FactSet(Node):
    """`tied`, `bypassed`, `unreached`, `all`"""

    fact: Literal["tied", "bypassed", "unreached", "all"]
    span: Span


@dataclass(frozen=True, eq=False, repr=False)
class Related(Node):
    """A set derived from another: what lies inside it, contains it, feeds it, ..."""

    relation: Literal["inside", "containing", "feeds", "fed_by", "reaches", "reached_by"]
    of: Set
    span: Span


@dataclass(frozen=True, eq=False, repr=False)
class Slice(Node):
    """`0:11`, `::2`, `-4:` or a single `3` (then `stop` is None and `single` is true)."""

    start: int | None
    stop: int | None
    step: int | None
    single: bool
    span: Span


@dataclass(frozen=True, eq=False, repr=False)
class Indexed(Node):
    """`index(S, 0:11)`: the members of S whose block index, within its family, the slices take."""

    of: Set
    slices: tuple[Slice, ...]
    span: Span


WHERE_FIELDS = (
    "in_features",
    "out_features",
    "in_channels",
    "out_channels",
    "num_embeddings",
    "embedding_dim",
    "kernel_size",
    "stride",
    "groups",
    "parameters",
)
"""What `where` can ask of a module: its integer attributes, and `parameters`, the count of its own parameters."""


@dataclass(frozen=True, eq=False, repr=False)
class Where(Node):
    """`where(out_features >= 4096)`: a condition on a module's own numbers; see `WHERE_FIELDS`."""

    condition: Expression
    span: Span


@dataclass(frozen=True, eq=False, repr=False)
class LetName(Node):
    """A `let`."""

    name: str
    span: Span


@dataclass(frozen=True, eq=False, repr=False)
class Combined(Node):
    """`A | B`, `A & B`, `A - B`"""

    operator: Literal["|", "&", "-"]
    left: Set
    right: Set
    span: Span


Set: TypeAlias = "Paths | Parameters | Kinds | Roles | Inits | FactSet | Related | Indexed | Where | LetName | Combined"
