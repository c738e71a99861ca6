"""Statements, and the whole file."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

from surgery.diagnostics import Span
from surgery.language.tree.node import Node

if TYPE_CHECKING:
    from surgery.language.tree.expressions import Expression, Number, Reference, Text
    from surgery.language.tree.sets import FactSet, Inits, Roles, Set, Word


@dataclass(frozen=True, eq=False, repr=False)
class Setting(Node):
    """`name = value`, or `name <= value` in a budget."""

    name: Word
    value: Expression
    operator: Literal["=", "<=", "<"]
    span: Span


@dataclass(frozen=True, eq=False, repr=False)
class Param(Node):
    name: Word
    type: Word
    default: Expression
    span: Span


@dataclass(frozen=True, eq=False, repr=False)
class GraphFile(Node):
    path: Text
    span: Span


@dataclass(frozen=True, eq=False, repr=False)
class Model(Node):
    """`model pkg.mod:Class { ... }`"""

    callee: Reference
    settings: tuple[Setting, ...]
    span: Span


@dataclass(frozen=True, eq=False, repr=False)
class Inputs(Node):
    """`inputs { x = f32[2, 4] }`, or `inputs pkg.mod:function` (then `callee` is set)."""

    settings: tuple[Setting, ...]
    callee: Reference | None
    span: Span


@dataclass(frozen=True, eq=False, repr=False)
class Rename(Node):
    """`"ema_model.transformer.**" -> "**"`: what a checkpoint calls a key, and what the model calls it."""

    theirs: Text
    ours: Text
    span: Span


@dataclass(frozen=True, eq=False, repr=False)
class Ignore(Node):
    """`ignore "initted", "step"`: keys of a checkpoint that are none of the model's."""

    keys: tuple[Text, ...]
    because: Text | None
    span: Span


@dataclass(frozen=True, eq=False, repr=False)
class Weights(Node):
    """`weights { ... }`: how the keys of a checkpoint are mapped to those of the model."""

    renames: tuple[Rename, ...]
    ignores: tuple[Ignore, ...]
    span: Span


@dataclass(frozen=True, eq=False, repr=False)
class Expect(Node):
    """`expect 22`, `expect 66..88` (operator `..`, both ends included), `expect >= 4`."""

    operator: Literal["==", "!=", "<", "<=", ">", ">=", ".."]
    low: Expression
    high: Expression | None
    span: Span


@dataclass(frozen=True, eq=False, repr=False)
class Let(Node):
    name: Word
    value: Set
    expect: Expect | None
    span: Span


@dataclass(frozen=True, eq=False, repr=False)
class Never(Node):
    value: Set
    because: Text | None
    expect: Expect | None
    span: Span


@dataclass(frozen=True, eq=False, repr=False)
class Exclude(Node):
    value: Set
    because: Text | None
    expect: Expect | None
    span: Span


@dataclass(frozen=True, eq=False, repr=False)
class Assume(Node):
    """`assume init(zero) = path(...)`: the author vouches for a fact that the graph does not know."""

    fact: Inits | Roles | FactSet
    value: Set
    because: Text | None
    span: Span


@dataclass(frozen=True, eq=False, repr=False)
class Method(Node):
    """`lora { r = 16  alpha = 16 }`"""

    name: Word
    settings: tuple[Setting, ...]
    span: Span


@dataclass(frozen=True, eq=False, repr=False)
class Target(Node):
    name: Word
    when: Expression | None
    overrides: tuple[Word, ...]
    select: Set
    except_: tuple[Set, ...]
    expect: Expect | None
    method: Method
    span: Span


@dataclass(frozen=True, eq=False, repr=False)
class Train(Node):
    """`train when COND? { select ... }`: trained in full and saved with the adapter."""

    when: Expression | None
    select: Set
    except_: tuple[Set, ...]
    expect: Expect | None
    span: Span


@dataclass(frozen=True, eq=False, repr=False)
class Checkpoint(Node):
    """`checkpoint blocks { every = 2 }`: gradient checkpointing of every Nth of the set, from the first."""

    value: Set
    settings: tuple[Setting, ...]
    span: Span


@dataclass(frozen=True, eq=False, repr=False)
class Budget(Node):
    """`budget { trainable <= 1%  adapter <= 20 MB }`"""

    limits: tuple[Setting, ...]
    span: Span


Statement: TypeAlias = (
    "Param | GraphFile | Model | Inputs | Weights | Let | Never | Exclude | Assume | Target | Train | Checkpoint"
    " | Budget"
)


@dataclass(frozen=True, eq=False, repr=False)
class Spec(Node):
    """A whole file. `statements` keeps their order; the properties pick one sort of them."""

    edition: Number
    statements: tuple[Statement, ...]
    span: Span

    @property
    def params(self) -> tuple[Param, ...]:
        return tuple(s for s in self.statements if isinstance(s, Param))

    @property
    def lets(self) -> tuple[Let, ...]:
        return tuple(s for s in self.statements if isinstance(s, Let))

    @property
    def nevers(self) -> tuple[Never, ...]:
        return tuple(s for s in self.statements if isinstance(s, Never))

    @property
    def excludes(self) -> tuple[Exclude, ...]:
        return tuple(s for s in self.statements if isinstance(s, Exclude))

    @property
    def assumes(self) -> tuple[Assume, ...]:
        return tuple(s for s in self.statements if isinstance(s, Assume))

    @property
    def targets(self) -> tuple[Target, ...]:
        return tuple(s for s in self.statements if isinstance(s, Target))

    @property
    def trains(self) -> tuple[Train, ...]:
        return tuple(s for s in self.statements if isinstance(s, Train))

    @property
    def checkpoints(self) -> tuple[Checkpoint, ...]:
        return tuple(s for s in self.statements if isinstance(s, Checkpoint))

    @property
    def budgets(self) -> tuple[Budget, ...]:
        return tuple(s for s in self.statements if isinstance(s, Budget))

    @property
    def graph(self) -> GraphFile | None:
        return next((s for s in self.statements if isinstance(s, GraphFile)), None)

    @property
    def model(self) -> Model | None:
        return next((s for s in self.statements if isinstance(s, Model)), None)

    @property
    def inputs(self) -> Inputs | None:
        return next((s for s in self.statements if isinstance(s, Inputs)), None)

    @property
    def weights(self) -> Weights | None:
        return next((s for s in self.statements if isinstance(s, Weights)), None)
