"""Lark's parse tree of values, numbers and conditions to nodes of the syntax tree."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from math import isfinite
from typing import Literal, TypeAlias, cast

from lark import Token, Tree

from surgery.diagnostics import Diagnostic, Diagnostics, Source, Span
from surgery.language import tree
from surgery.language.nearest import did_you_mean
from surgery.language.values import LARGEST

ParseTree: TypeAlias = "Tree[Token]"
DTYPES = ("f16", "bf16", "f32", "f64", "i8", "i16", "i32", "i64", "u8", "bool")
UNITS = {"B": 1, "kB": 10**3, "MB": 10**6, "GB": 10**9, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}
_ESCAPES = {"\\": "\\", '"': '"', "n": "\n", "t": "\t"}
_ESCAPE = re.compile(r"\\(.)")
_ARITHMETIC: dict[str, Literal["+", "-", "*", "/"]] = {"add": "+", "subtract": "-", "multiply": "*", "divide": "/"}
_LOGIC: dict[str, Literal["and", "or"]] = {"and_": "and", "or_": "or"}
_MOST_DIGITS = 300


class ExpressionBuilder(ABC):
    """Builds expressions. What it finds wrong goes to `found`; the node it returns then stands in for a right one."""

    def __init__(self, source: Source, found: Diagnostics) -> None:
        self.source = source
        self.found = found

    @abstractmethod
    def set(self, node: ParseTree) -> tree.Set:
        """A set of modules."""

    def span(self, node: ParseTree | Token) -> Span:
        if isinstance(node, Token):
            assert node.start_pos is not None
            assert node.end_pos is not None
            return Span(self.source, node.start_pos, node.end_pos)
        return Span(self.source, node.meta.start_pos, node.meta.end_pos)

    def word(self, token: Token) -> tree.Word:
        return tree.Word(str(token), self.span(token))

    def text(self, token: Token) -> tree.Text:
        """A string token without its quotes and escapes."""
        span = self.span(token)
        for escape in _ESCAPE.finditer(token):
            if escape[1] not in _ESCAPES:
                start = span.start + escape.start()
                self.found.add(
                    Diagnostic(
                        "E0001",
                        f"a string cannot hold the escape `{escape[0]}`",
                        Span(self.source, start, start + 2),
                        helps=('the escapes are `\\\\`, `\\"`, `\\n` and `\\t`',),
                    )
                )
        return tree.Text(_ESCAPE.sub(lambda escape: _ESCAPES.get(escape[1], ""), token[1:-1]), span)

    def expression(self, node: ParseTree) -> tree.Expression:
        """Any value, number or condition."""
        span, children = self.span(node), node.children
        if node.data in _ARITHMETIC:
            left, right = (self.expression(cast(ParseTree, child)) for child in children)
            return tree.Arithmetic(_ARITHMETIC[node.data], left, right, span)
        if node.data in _LOGIC:
            left, right = (self.expression(cast(ParseTree, child)) for child in children)
            return tree.Logic(_LOGIC[node.data], left, right, span)
        build = getattr(self, f"_{node.data.rstrip('_')}")
        return cast(tree.Expression, build(span, children))

    # One method per rule of the grammar, called by `expression` with the rule's children.

    def _number(self, span: Span, children: list[Token]) -> tree.Number:
        return tree.Number(self.number(children[0], span), span)

    def number(self, text: str, span: Span, unit: int = 1) -> int | float:
        """The number that a text is, in units; E0001 for one that no machine holds."""
        if len(text) <= _MOST_DIGITS:
            number = unit * (int(text) if text.isdecimal() else float(text))
            if number <= LARGEST or (isinstance(number, float) and isfinite(number)):
                return number
        self.found.add(Diagnostic("E0001", "this number is too large", span, helps=("write a smaller one",)))
        return 0

    def _negative(self, span: Span, children: list[ParseTree]) -> tree.Expression:
        operand = self.expression(children[0])
        if isinstance(operand, tree.Number):
            return tree.Number(-operand.value, span)
        return tree.Negative(operand, span)

    def _size(self, span: Span, children: list[Token]) -> tree.Size:
        unit = children[0].lstrip("0123456789. \t")
        return tree.Size(round(self.number(children[0][: -len(unit)].strip(), span, UNITS[unit])), span)

    def _share(self, span: Span, children: list[Token]) -> tree.Share:
        return tree.Share(self.number(children[0][:-1].strip(), span) / 100, span)

    def _text(self, span: Span, children: list[Token]) -> tree.Text:
        return self.text(children[0])

    def _true(self, span: Span, children: list[Token]) -> tree.Boolean:
        return tree.Boolean(True, span)

    def _false(self, span: Span, children: list[Token]) -> tree.Boolean:
        return tree.Boolean(False, span)

    def _none(self, span: Span, children: list[Token]) -> tree.Nothing:
        return tree.Nothing(span)

    def _name(self, span: Span, children: list[Token]) -> tree.Name:
        return tree.Name(str(children[0]), span)

    def _items(self, span: Span, children: list[ParseTree | None]) -> tree.Items:
        return tree.Items(tuple(self.expression(child) for child in children if child is not None), span)

    def _json(self, span: Span, children: list[Token]) -> tree.JsonFile:
        return tree.JsonFile(self.text(children[0]), span)

    def _count(self, span: Span, children: list[ParseTree]) -> tree.Count:
        return tree.Count(self.set(children[0]), span)

    def _not(self, span: Span, children: list[ParseTree]) -> tree.Not:
        return tree.Not(self.expression(children[0]), span)

    def _compare(self, span: Span, children: tuple[ParseTree, Token, ParseTree]) -> tree.Comparison:
        left, operator, right = children
        return tree.Comparison(cast(Literal["=="], str(operator)), self.expression(left), self.expression(right), span)

    def reference(self, token: Token) -> tree.Reference:
        module, _, attribute = token.partition(":")
        return tree.Reference(module, attribute, self.span(token))

    def _construction(self, span: Span, children: tuple[Token, ParseTree | None]) -> tree.Expression:
        token, settings = children
        callee = self.reference(token)
        return tree.Construction(callee, self.settings(settings), span) if settings is not None else callee

    def _tensor(self, span: Span, children: list[Token | ParseTree | None]) -> tree.Tensor:
        dtype, below = cast(Token, children[0]), cast("ParseTree | None", children[-1])
        if dtype not in DTYPES:
            self.found.add(
                Diagnostic(
                    "E0103",
                    f"there is no tensor type `{dtype}`",
                    self.span(dtype),
                    helps=did_you_mean(dtype, DTYPES) or (f"the types are {', '.join(DTYPES)}",),
                )
            )
        shape = tuple(self.expression(cast(ParseTree, child)) for child in children[1:-1] if child is not None)
        return tree.Tensor(str(dtype), shape, self.expression(below) if below is not None else None, span)

    def settings(self, node: ParseTree) -> tuple[tree.Setting, ...]:
        """`{ name = value ... }`"""
        return tuple(self._setting(cast(ParseTree, child)) for child in node.children)

    def _setting(self, node: ParseTree) -> tree.Setting:
        name, value = cast("tuple[Token, ParseTree]", node.children)
        return tree.Setting(self.word(name), self.expression(value), "=", self.span(node))
