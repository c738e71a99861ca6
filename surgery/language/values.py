"""Expressions to Python values."""

from __future__ import annotations

import json
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from surgery.diagnostics import Diagnostic, Span, SurgeryError
from surgery.files import read_text
from surgery.language import tree

_ARITHMETIC: dict[str, Callable[[Any, Any], Any]] = {"+": operator.add, "-": operator.sub, "*": operator.mul}
_COMPARISON: dict[str, Callable[[Any, Any], bool]] = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_OBJECTS = (tree.Reference, tree.Construction, tree.Tensor)
_LONGEST_SHOWN = 80
LARGEST = 2**63 - 1


@dataclass(frozen=True)
class Evaluator:
    """Evaluates expressions: `names` holds the values of params, `folder` is where `json(...)` reads.

    `count` gives the size of a set of modules; without it, `count(...)` cannot be evaluated.
    """

    names: Mapping[str, Any]
    folder: Path
    count: Callable[[tree.Set], int] | None = field(default=None)

    def __call__(self, expression: tree.Expression) -> Any:
        """The Python value: sizes as int bytes, shares as float, `none` as None, lists as list.

        References, constructions and tensors have no value before a model is built: they come back as they are.
        Raises SurgeryError: E0101 for a name without a value, E0105 for operands that do not go together,
        E0501 and E0002 for a JSON file that cannot be read.
        """
        match expression:
            case tree.Number() | tree.Boolean() | tree.Text():
                return expression.value
            case tree.Nothing():
                return None
            case tree.Size():
                return expression.bytes
            case tree.Share():
                return expression.fraction
            case tree.Items():
                return [self(item) for item in expression.items]
            case tree.JsonFile():
                return read_json(expression.path.value, self.folder, expression.span)
            case tree.Reference() | tree.Construction() | tree.Tensor():
                return expression
            case tree.Name():
                return self._name(expression)
            case tree.Count():
                return self._count(expression)
            case _:
                return self._operation(expression)

    def _name(self, name: tree.Name) -> Any:
        if name.name not in self.names:
            raise SurgeryError(Diagnostic("E0101", f"there is no param `{name.name}`", name.span))
        return self.names[name.name]

    def _count(self, expression: tree.Count) -> int:
        if self.count is None:
            raise SurgeryError(not_yet_countable(expression.span))
        return self.count(expression.of)

    def _operation(self, expression: tree.Expression) -> Any:
        match expression:
            case tree.Negative():
                return -self._number(expression.operand)
            case tree.Arithmetic():
                return self._arithmetic(expression)
            case tree.Comparison(operator=sign):
                left, right = self(expression.left), self(expression.right)
                if sign not in ("==", "!="):
                    left, right = self._number(expression.left), self._number(expression.right)
                return _COMPARISON[sign](left, right)
            case tree.Not():
                return not self._boolean(expression.operand)
            case tree.Logic(operator="and"):
                return self._boolean(expression.left) and self._boolean(expression.right)
            case tree.Logic():
                return self._boolean(expression.left) or self._boolean(expression.right)
        raise AssertionError(f"no rule evaluates {type(expression).__name__}")

    def _arithmetic(self, expression: tree.Arithmetic) -> int | float:
        left, right = self._number(expression.left), self._number(expression.right)
        value: int | float
        try:
            if expression.operator == "/":
                exact = isinstance(left, int) and isinstance(right, int) and left % right == 0
                value = left // right if exact else left / right
            else:
                value = _ARITHMETIC[expression.operator](left, right)
        except ZeroDivisionError:
            raise SurgeryError(
                Diagnostic("E0105", "division by zero", expression.span, helps=("check the values of the params",))
            ) from None
        except OverflowError:
            value = LARGEST + 1
        if not -LARGEST <= value <= LARGEST:
            raise SurgeryError(
                Diagnostic("E0105", "the result is too large", expression.span, helps=("check the numbers in it",))
            )
        return value

    def _number(self, expression: tree.Expression) -> Any:
        value = self(expression)
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise SurgeryError(_wrong_operand("a number", value, expression.span))
        return value

    def _boolean(self, expression: tree.Expression) -> bool:
        value = self(expression)
        if not isinstance(value, bool):
            raise SurgeryError(_wrong_operand("true or false", value, expression.span))
        return value


def spelled(value: object) -> str:
    """A value as a `.surg` file writes it, cut where it is long."""
    text = _spelled(value)
    return text if len(text) <= _LONGEST_SHOWN else text[: _LONGEST_SHOWN - 3] + "..."


def _spelled(value: object) -> str:
    if value is None or isinstance(value, bool):
        return {None: "none", True: "true", False: "false"}[value]
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, list):
        return "[" + ", ".join(map(_spelled, value)) + "]"
    return f"`{value.span.text}`" if isinstance(value, _OBJECTS) else str(value)


def _wrong_operand(wanted: str, value: object, span: Span) -> Diagnostic:
    return Diagnostic("E0105", f"this has to be {wanted}, and is {spelled(value)}", span, helps=(f"write {wanted}",))


def not_yet_countable(span: Span) -> Diagnostic:
    """E0105 for a `count` where no model is at hand."""
    return Diagnostic(
        "E0105",
        "`count(...)` needs the model, and can only stand in an `expect`",
        span,
        helps=("write the number, or use a `param`",),
    )


def read_json(name: str, folder: Path, span: Span) -> Any:
    """The value in a JSON file in the spec's folder or below. Raises SurgeryError (E0501, E0002) at `span`.

    Nothing outside of that folder is read: a plan of somebody else's spec may show what is in the file.
    """
    path = folder / name
    if not path.resolve().is_relative_to(folder.resolve()):
        help = "put the file beside the spec"
        raise SurgeryError(Diagnostic("E0501", "the JSON file lies outside of the spec's folder", span, helps=(help,)))
    try:
        return json.loads(read_text(path, what="JSON file"))
    except SurgeryError as error:
        (found,) = error.diagnostics
        help = "the path is taken from the folder of the spec"
        raise SurgeryError(Diagnostic(found.code, found.message, span, notes=(str(path),), helps=(help,))) from None
    except (ValueError, RecursionError) as error:
        reason = error if isinstance(error, ValueError) else "it nests too deeply"
        raise SurgeryError(
            Diagnostic("E0501", f"this is not a JSON file: {reason}", span, notes=(str(path),), helps=("repair it",))
        ) from None
