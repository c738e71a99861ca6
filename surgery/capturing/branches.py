"""What the source of a function mentions, and on which branches: read, not run."""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from types import CodeType
from typing import Any

# Ask about a tensor, and use no value of it.
_ABOUT = {"isinstance", "hasattr", "getattr", "type", "id", "len", "callable"}
_LEAVING = (ast.Return, ast.Raise, ast.Continue, ast.Break)

Chain = tuple[str, ...]  # `self.out_proj.weight`
EACH = "*"  # in a chain: every child


@dataclass(frozen=True)
class Condition:
    """A test that a line depends on, and what it has to be for the line to run."""

    test: ast.expr
    wanted: bool


@dataclass(frozen=True)
class Mention:
    """A chain of attributes that starts at a name, with the conditions it stands under."""

    chain: Chain
    line: int
    conditions: tuple[Condition, ...]


@dataclass(frozen=True)
class Call:
    """A call of what a chain names; `arguments` are those that are chains, by position or keyword."""

    callee: Chain
    arguments: tuple[tuple[int | str, Chain], ...]
    conditions: tuple[Condition, ...]


@dataclass(frozen=True)
class Summary:
    """Everything in a function that may concern a module it is given. `locals` are the names it binds."""

    filename: str
    parameters: tuple[str, ...]
    locals: frozenset[str]
    mentions: tuple[Mention, ...]
    calls: tuple[Call, ...]


def summary_of(function: Callable[..., Any]) -> Summary | None:
    """What a Python function's source says; None where there is no source."""
    code = getattr(inspect.unwrap(function), "__code__", None)
    return _summary(code) if isinstance(code, CodeType) else None


@lru_cache(maxsize=4096)
def _summary(code: CodeType) -> Summary | None:
    try:
        lines, start = inspect.getsourcelines(code)
        tree = ast.parse(textwrap.dedent("".join(lines)))
    except (OSError, TypeError, SyntaxError):
        return None
    ast.increment_lineno(tree, start - 1)
    function = next((n for n in ast.walk(tree) if isinstance(n, (ast.FunctionDef, ast.AsyncFunctionDef))), None)
    if function is None:
        return None
    reader = _Reader()
    reader.block(function.body, ())
    names = {n.id for n in ast.walk(function) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
    parameters = tuple(a.arg for a in (*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs))
    return Summary(
        code.co_filename, parameters, frozenset(names | {*parameters}), tuple(reader.mentions), tuple(reader.calls)
    )


class _Reader:
    """Collects chains and calls, statement by statement, with the conditions they stand under."""

    def __init__(self) -> None:
        self.mentions: list[Mention] = []
        self.calls: list[Call] = []
        self.aliases: dict[str, Chain] = {}  # names for parts of a chain: `for layer in self.layers`

    def block(self, statements: list[ast.stmt], conditions: tuple[Condition, ...]) -> None:
        for statement in statements:
            if isinstance(statement, (ast.If, ast.While)):
                self._expression(statement.test, conditions)
                self.block(statement.body, (*conditions, Condition(statement.test, True)))
                self.block(statement.orelse, (*conditions, Condition(statement.test, False)))
                if isinstance(statement, ast.If):
                    conditions = (*conditions, *_after(statement))
            else:
                if isinstance(statement, (ast.For, ast.AsyncFor)):
                    self._name_items(statement.target, statement.iter)
                    self._expression(statement.iter, conditions)
                    self.block([*statement.body, *statement.orelse], (*conditions, Condition(statement.iter, True)))
                    continue
                if isinstance(statement, ast.Match):
                    self._match(statement, conditions)
                    continue
                if isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Name):
                    self._name(statement.targets[0], self._chain(statement.value))
                self._statement(statement, conditions)

    def _match(self, statement: ast.Match, conditions: tuple[Condition, ...]) -> None:
        for case in statement.cases:
            test: ast.expr = statement.subject
            if isinstance(case.pattern, ast.MatchValue):
                test = ast.Compare(statement.subject, [ast.Eq()], [case.pattern.value])
                ast.copy_location(ast.fix_missing_locations(test), statement.subject)
            self.block(case.body, (*conditions, Condition(test, True)))

    def _name(self, target: ast.expr, chain: Chain) -> None:
        if isinstance(target, ast.Name) and len(chain) > 1:
            self.aliases[target.id] = chain

    def _name_items(self, target: ast.expr, items: ast.expr) -> None:
        """What a loop's target stands for: each item of a chain, also behind `enumerate` and `zip`."""
        called = items.func.id if isinstance(items, ast.Call) and isinstance(items.func, ast.Name) else ""
        given = items.args if isinstance(items, ast.Call) else []
        parts = target.elts if isinstance(target, ast.Tuple) else []
        if called == "enumerate" and given and len(parts) == 2:
            self._name_items(parts[1], given[0])
        elif called == "zip":
            for part, source in zip(parts, given, strict=False):
                self._name_items(part, source)
        elif chain := self._chain(items):
            self._name(target, (*chain, EACH))

    def _chain(self, node: ast.AST) -> Chain:
        chain = _chain(node)
        return (*self.aliases[chain[0]], *chain[1:]) if chain and chain[0] in self.aliases else chain

    def _statement(self, statement: ast.stmt, conditions: tuple[Condition, ...]) -> None:
        for _, value in ast.iter_fields(statement):
            for part in value if isinstance(value, list) else [value]:
                if isinstance(part, ast.stmt):
                    self.block([part], conditions)
                elif isinstance(part, ast.ExceptHandler):
                    self.block(part.body, conditions)
                elif isinstance(part, ast.withitem):
                    self._expression(part.context_expr, conditions)
                elif isinstance(part, ast.expr):
                    self._expression(part, conditions)

    def _expression(self, node: ast.AST, conditions: tuple[Condition, ...]) -> None:
        if chain := self._chain(node):
            self.mentions.append(Mention(chain, node.lineno, conditions))  # type: ignore[attr-defined]
        elif isinstance(node, ast.IfExp):
            self._expression(node.test, conditions)
            self._expression(node.body, (*conditions, Condition(node.test, True)))
            self._expression(node.orelse, (*conditions, Condition(node.test, False)))
        elif isinstance(node, ast.BoolOp):
            for value in node.values:
                self._expression(value, conditions)
                conditions = (*conditions, Condition(value, isinstance(node.op, ast.And)))
        elif isinstance(node, ast.Compare) and all(isinstance(op, (ast.Is, ast.IsNot)) for op in node.ops):
            return
        elif isinstance(node, ast.Call):
            self._call(node, conditions)
        else:
            for child in ast.iter_child_nodes(node):
                self._expression(child, conditions)

    def _call(self, node: ast.Call, conditions: tuple[Condition, ...]) -> None:
        callee = self._chain(node.func)
        if callee and callee[0] in _ABOUT:
            return
        given: list[tuple[int | str, ast.expr]] = [*enumerate(node.args)]
        given += [(keyword.arg, keyword.value) for keyword in node.keywords if keyword.arg]
        if callee:
            chains = tuple((key, chain) for key, value in given if (chain := self._chain(value)))
            self.calls.append(Call(callee, chains, conditions))
        self._expression(node.func, conditions)
        for value in (*node.args, *(keyword.value for keyword in node.keywords)):
            self._expression(value, conditions)


def _after(statement: ast.If) -> Iterator[Condition]:
    """What holds behind an `if` of which one branch leaves."""
    if isinstance(statement.body[-1], _LEAVING):
        yield Condition(statement.test, False)
    if statement.orelse and isinstance(statement.orelse[-1], _LEAVING):
        yield Condition(statement.test, True)


def _chain(node: ast.AST) -> Chain:
    """`self.layers[0].weight` as its parts; empty for what is no such chain."""
    if isinstance(node, ast.Name):
        return (node.id,)
    if isinstance(node, ast.Attribute):
        before = _chain(node.value)
        return (*before, node.attr) if before else ()
    if isinstance(node, ast.Subscript) and not isinstance(node.slice, (ast.Slice, ast.Tuple)):
        before = _chain(node.value)
        known = isinstance(node.slice, ast.Constant) and isinstance(node.slice.value, int)
        return (*before, str(node.slice.value) if known else EACH) if before else ()  # type: ignore[attr-defined]
    return ()
