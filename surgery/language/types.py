"""Types of expressions: what stands where a number, a condition or another value is wanted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

from surgery.diagnostics import Diagnostic, Diagnostics, Span
from surgery.language import tree
from surgery.language.values import not_yet_countable
from surgery.language.walking import walk

Type: TypeAlias = Literal["number", "boolean", "string", "none", "list", "size", "share", "object", "any"]

_WORDS: dict[str, str] = {
    "number": "a number",
    "boolean": "a condition",
    "string": "a string",
    "none": "`none`",
    "list": "a list",
    "size": "a size",
    "share": "a share",
    "object": "an object",
}
_EXAMPLES = {
    "number": "write a number, such as `16`, or the name of a number param",
    "boolean": "write a comparison, such as `rank > 8`, or the name of a bool param",
    "size": "write a size, such as `20 MB`",
    "share": "write a share, such as `1%`",
}
_PARAM_TYPES: dict[str, Type] = {"int": "number", "float": "number", "bool": "boolean", "str": "string"}
_LITERALS: dict[type, Type] = {
    tree.Number: "number",
    tree.Boolean: "boolean",
    tree.Nothing: "none",
    tree.Text: "string",
    tree.Items: "list",
    tree.Size: "size",
    tree.Share: "share",
    tree.Count: "number",
    tree.Reference: "object",
    tree.Construction: "object",
    tree.Tensor: "object",
    tree.JsonFile: "any",
}
_NO_SETTINGS = (tree.Size, tree.Reference, tree.Construction, tree.Tensor)


def check_types(spec: tree.Spec, found: Diagnostics) -> None:
    """Adds E0105 to `found`, wherever an expression is not of the type its place wants."""
    params = {param.name.name: _PARAM_TYPES.get(param.type.name, "any") for param in spec.params}
    checker = TypeChecker(params, found)
    in_where = TypeChecker({**params, **dict.fromkeys(tree.WHERE_FIELDS, "number")}, found)
    for node in walk(spec):
        match node:
            case tree.Expect():
                checker.want("number", node.low)
                if node.high is not None:
                    checker.want("number", node.high)
            case tree.Where():
                in_where.want("boolean", node.condition)
            case tree.Target() | tree.Train() if node.when is not None:
                checker.want("boolean", node.when)
            case tree.Method():
                found.extend(
                    _no_setting(setting) for setting in node.settings if isinstance(setting.value, _NO_SETTINGS)
                )
            case tree.Setting():
                checker.type(node.value)
    _check_counts(spec, found)


def _no_setting(setting: tree.Setting) -> Diagnostic:
    """E0105 for the setting of a method that no method can have."""
    given = _WORDS[_LITERALS[type(setting.value)]]
    message = f"a setting of a method cannot be {given}"
    return Diagnostic("E0105", message, setting.value.span, helps=(_EXAMPLES["number"],))


def _check_counts(spec: tree.Spec, found: Diagnostics) -> None:
    """`count` stands in an `expect` only: everything else is needed before there is a model."""
    allowed = {id(n) for e in walk(spec) if isinstance(e, tree.Expect) for n in walk(e) if isinstance(n, tree.Count)}
    for node in walk(spec):
        if isinstance(node, tree.Count) and id(node) not in allowed:
            found.add(not_yet_countable(node.span))


@dataclass(frozen=True)
class TypeChecker:
    """Finds the types of expressions. Unknown names have the type `any`: they are reported elsewhere."""

    params: Mapping[str, Type]
    found: Diagnostics

    def want(self, wanted: Type, expression: tree.Expression) -> None:
        """E0105 unless the expression is of this type."""
        given = self.type(expression)
        if given not in (wanted, "any"):
            self._wrong(f"here {_WORDS[wanted]} has to stand, not {_WORDS[given]}", wanted, expression.span)

    def _wrong(self, message: str, wanted: Type, span: Span) -> None:
        self.found.add(Diagnostic("E0105", message, span, helps=(_EXAMPLES[wanted],)))

    def type(self, expression: tree.Expression) -> Type:
        """The type of an expression, with the operands in it checked."""
        match expression:
            case tree.Items():
                for item in expression.items:
                    self.type(item)
                return "list"
            case tree.Name():
                return self.params.get(expression.name, "any")
            case tree.Arithmetic():
                self.want("number", expression.left)
                self.want("number", expression.right)
                return "number"
            case tree.Negative():
                self.want("number", expression.operand)
                return "number"
            case tree.Not():
                self.want("boolean", expression.operand)
                return "boolean"
            case tree.Logic():
                self.want("boolean", expression.left)
                self.want("boolean", expression.right)
                return "boolean"
            case tree.Comparison():
                self._comparison(expression)
                return "boolean"
        return _LITERALS[type(expression)]

    def _comparison(self, comparison: tree.Comparison) -> None:
        if comparison.operator not in ("==", "!="):
            self.want("number", comparison.left)
            self.want("number", comparison.right)
            return
        left, right = self.type(comparison.left), self.type(comparison.right)
        if left != right and "any" not in (left, right) and "none" not in (left, right):
            self.found.add(
                Diagnostic(
                    "E0105",
                    f"{_WORDS[left]} is never equal to {_WORDS[right]}",
                    comparison.span,
                    helps=("compare values of one type; strings stand in double quotes",),
                )
            )
