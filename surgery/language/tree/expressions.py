"""Values, numbers and conditions: settings, arguments, `expect`, `when`, `where`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

from surgery.diagnostics import Span
from surgery.language.tree.node import Node

if TYPE_CHECKING:
    from surgery.language.tree.sets import Set
    from surgery.language.tree.statements import Setting

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
