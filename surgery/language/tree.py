"""The syntax tree of a `.surg` file: frozen dataclasses, each with the span it was read from.

Three sorts of expression share the tree: values (settings, arguments), numbers and conditions
(`expect`, `when`, `where`), and sets of modules (selectors). Statements hold them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from surgery.diagnostics import Span


class Node:
    """What all nodes share. Written once here, as generating it for each of them takes time at every start."""

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and vars(self) == vars(other)

    def __hash__(self) -> int:
        return hash((type(self), *vars(self).values()))

    def __repr__(self) -> str:
        values = ", ".join(f"{name}={value!r}" for name, value in vars(self).items() if name != "span")
        return f"{type(self).__name__}({values})"


# --- values ---------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False, repr=False)
class Number(Node):
    value: int | float
    span: Span


@dataclass(frozen=True, eq=False, repr=False)
class Boolean(Node):
    value: bool
    span: Span


@dataclass(frozen=True, eq=False, repr=False)
class Nothing(Node):
    """`none`"""

    span: Span


@dataclass(frozen=True, eq=False, repr=False)
class Text(Node):
    value: str
    span: Span


@dataclass(frozen=True, eq=False, repr=False)
class Items(Node):
    """`[a, b]`"""

    items: tuple[Expression, ...]
    span: Span


@dataclass(frozen=True, eq=False, repr=False)
class Size(Node):
    """`20 MB`, as bytes (MB = 10**6, MiB = 2**20)."""

    bytes: int
    span: Span


@dataclass(frozen=True, eq=False, repr=False)
class Share(Node):
    """`1%`, as a fraction of 1."""

    fraction: float
    span: Span


@dataclass(frozen=True, eq=False, repr=False)
class JsonFile(Node):
    """`json("config.json")`, read beside the spec when the value is needed."""

    path: Text
    span: Span


@dataclass(frozen=True, eq=False, repr=False)
class Reference(Node):
    """`package.module:attribute`; a name of an installed package, imported by `capture` only."""

    module: str
    attribute: str
    span: Span

    @property
    def name(self) -> str:
        return f"{self.module}:{self.attribute}"


@dataclass(frozen=True, eq=False, repr=False)
class Construction(Node):
    """`transformers:LlamaConfig { hidden_size = 4096 }`: a class or function called with settings."""

    callee: Reference
    settings: tuple[Setting, ...]
    span: Span


@dataclass(frozen=True, eq=False, repr=False)
class Tensor(Node):
    """`i64[2, 20] < 2545`: a tensor of an example call; `below` bounds integer values."""

    dtype: str
    shape: tuple[Expression, ...]
    below: Expression | None
    span: Span


@dataclass(frozen=True, eq=False, repr=False)
class Name(Node):
    """A `param`."""

    name: str
    span: Span


# --- numbers and conditions -----------------------------------------------------------------


@dataclass(frozen=True, eq=False, repr=False)
class Arithmetic(Node):
    operator: Literal["+", "-", "*", "/"]
    left: Expression
    right: Expression
    span: Span


@dataclass(frozen=True, eq=False, repr=False)
class Negative(Node):
    operand: Expression
    span: Span


@dataclass(frozen=True, eq=False, repr=False)
class Count(Node):
    """`count(S)`"""

    of: Set
    span: Span


@dataclass(frozen=True, eq=False, repr=False)
class Comparison(Node):
    operator: Literal["==", "!=", "<", "<=", ">", ">="]
    left: Expression
    right: Expression
    span: Span


@dataclass(frozen=True, eq=False, repr=False)
class Logic(Node):
    operator: Literal["and", "or"]
    left: Expression
    right: Expression
    span: Span


@dataclass(frozen=True, eq=False, repr=False)
class Not(Node):
    operand: Expression
    span: Span


Expression: TypeAlias = (
    "Number | Boolean | Nothing | Text | Items | Size | Share | JsonFile | Reference | Construction | Tensor | Name"
    " | Arithmetic | Negative | Count | Comparison | Logic | Not"
)

# --- sets of modules ------------------------------------------------------------------------


@dataclass(frozen=True, eq=False, repr=False)
class Paths(Node):
    """`path(glob, ...)`"""

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


Set: TypeAlias = "Paths | Kinds | Roles | Inits | FactSet | Related | Indexed | Where | LetName | Combined"

# --- statements -----------------------------------------------------------------------------


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
    "Param | GraphFile | Model | Inputs | Let | Never | Exclude | Assume | Target | Train | Checkpoint | Budget"
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
