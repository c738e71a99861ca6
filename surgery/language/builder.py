"""Lark's parse tree of statements to nodes of the syntax tree."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, cast

from lark import Token, Tree

from surgery.diagnostics import Diagnostic, Label, Span
from surgery.language import tree
from surgery.language.expressions import ParseTree
from surgery.language.selectors import SelectorBuilder

_EXPECTS = ("expect_exactly", "expect_compared", "expect_range")


class Builder(SelectorBuilder):
    """Builds a whole file: one method per statement, named as the grammar's rule."""

    def spec(self, node: ParseTree) -> tree.Spec:
        edition, *statements = cast("list[Any]", node.children)
        built = tuple(getattr(self, f"_{statement.data}")(statement) for statement in statements)
        number = tree.Number(int(edition), self.span(edition))
        return tree.Spec(number, built, Span(self.source, 0, len(self.source.text)))

    def _param(self, node: ParseTree) -> tree.Param:
        name, type, default = cast("Any", node.children)
        return tree.Param(self.word(name), self.word(type), self.expression(default), self.span(node))

    def _graph(self, node: ParseTree) -> tree.GraphFile:
        return tree.GraphFile(self.text(cast(Token, node.children[0])), self.span(node))

    def _model(self, node: ParseTree) -> tree.Model:
        callee, settings = cast("Any", node.children)
        return tree.Model(self.reference(callee), self.settings(settings) if settings else (), self.span(node))

    def _inputs(self, node: ParseTree) -> tree.Inputs:
        given = node.children[0]
        if isinstance(given, Token):
            return tree.Inputs((), self.reference(given), self.span(node))
        return tree.Inputs(self.settings(given), None, self.span(node))

    def _weights(self, node: ParseTree) -> tree.Weights:
        parts = cast("list[ParseTree]", node.children)
        if not parts:
            help = 'say what the checkpoint calls them: `"ema_model.**" -> "**"`, or remove the statement'
            self.found.add(Diagnostic("E0107", "`weights` maps no key", self.span(node), helps=(help,)))
        return tree.Weights(
            tuple(self._rename(part) for part in parts if part.data == "rename"),
            tuple(self._ignore(part) for part in parts if part.data == "ignore"),
            self.span(node),
        )

    def _rename(self, node: ParseTree) -> tree.Rename:
        theirs, ours = cast("tuple[Token, Token]", node.children)
        return tree.Rename(self.text(theirs), self.text(ours), self.span(node))

    def _ignore(self, node: ParseTree) -> tree.Ignore:
        *keys, because = cast("list[Any]", node.children)
        return tree.Ignore(tuple(map(self.text, keys)), self._because(because), self.span(node))

    def _let(self, node: ParseTree) -> tree.Let:
        name, value, expect = cast("Any", node.children)
        return tree.Let(self.word(name), self.set(value), self._expect(expect), self.span(node))

    def _never(self, node: ParseTree) -> tree.Never:
        value, because, expect = self._protection(node)
        return tree.Never(value, because, expect, self.span(node))

    def _exclude(self, node: ParseTree) -> tree.Exclude:
        value, because, expect = self._protection(node)
        return tree.Exclude(value, because, expect, self.span(node))

    def _protection(self, node: ParseTree) -> tuple[tree.Set, tree.Text | None, tree.Expect | None]:
        value, *clauses = cast("list[ParseTree]", node.children)
        because = self._only(clauses, ("because",), "`because`")
        expect = self._only(clauses, _EXPECTS, "`expect`")
        return self.set(value), self._because(because), self._expect(expect)

    def _assume(self, node: ParseTree) -> tree.Assume:
        fact, value, because = cast("Any", node.children)
        assumed = self.set(fact)
        if not isinstance(assumed, (tree.Inits, tree.Roles, tree.FactSet)) or assumed == tree.FactSet(
            "all", assumed.span
        ):
            self.found.add(
                Diagnostic(
                    "E0105",
                    "only a fact can be assumed",
                    self.span(fact),
                    helps=("assume init(...), role(...), tied, bypassed or unreached",),
                )
            )
            assumed = tree.Inits((), self.span(fact))
        return tree.Assume(assumed, self.set(value), self._because(because), self.span(node))

    def _target(self, node: ParseTree) -> tree.Target:
        name, *head, body = cast("list[Any]", node.children)
        when = self._only(head, ("when",), "`when`")
        overrides = [self.word(word) for part in head if part.data == "overrides" for word in part.children]
        select, except_, expect = self._selection(body, f"target `{name}`")
        method = self._only(body.children, ("method",), "method")
        if method is None:
            self._missing(name, f"target `{name}` has no method", "add one, such as `lora { r = 16  alpha = 16 }`")
        return tree.Target(
            self.word(name),
            self.expression(cast(ParseTree, when.children[0])) if when else None,
            tuple(overrides),
            select,
            except_,
            expect,
            self._method(method) if method else tree.Method(tree.Word("", self.span(name)), (), self.span(name)),
            self.span(node),
        )

    def _train(self, node: ParseTree) -> tree.Train:
        when, body = cast("Any", node.children)
        select, except_, expect = self._selection(body, "`train`")
        for part in body.children:
            if part.data == "method":
                self.found.add(
                    Diagnostic(
                        "E0105",
                        "`train` takes no method: what it selects is trained in full",
                        self.span(part.children[0]),
                        helps=(f"for an adapter write `target NAME {{ select ...  {part.children[0]} {{ ... }} }}`",),
                    )
                )
        condition = self.expression(when.children[0]) if when else None
        return tree.Train(condition, select, except_, expect, self.span(node))

    def _checkpoint(self, node: ParseTree) -> tree.Checkpoint:
        value, settings = cast("Any", node.children)
        return tree.Checkpoint(self.set(value), self.settings(settings), self.span(node))

    def _budget(self, node: ParseTree) -> tree.Budget:
        return tree.Budget(tuple(self._limit(limit) for limit in cast("list[Any]", node.children)), self.span(node))

    # --- parts of statements

    def _limit(self, node: ParseTree) -> tree.Setting:
        name, operator, value = cast("Any", node.children)
        return tree.Setting(self.word(name), self.expression(value), cast(Any, str(operator)), self.span(node))

    def _selection(self, body: ParseTree, what: str) -> tuple[tree.Set, tuple[tree.Set, ...], tree.Expect | None]:
        parts = cast("list[ParseTree]", body.children)
        select = self._only(parts, ("select",), "`select`")
        if select is None:
            self._missing(
                body, f"{what} selects nothing", 'add a `select`, such as `select path("blocks.*.attn.to_q")`'
            )
        except_ = tuple(self.set(part.children[0]) for part in parts if part.data == "except")  # type: ignore[arg-type]
        expect = self._expect(self._only(parts, _EXPECTS, "`expect`"))
        selected = self.set(cast(ParseTree, select.children[0])) if select else tree.Paths((), self.span(body))
        return selected, except_, expect

    def _method(self, node: ParseTree) -> tree.Method:
        name, settings = cast("Any", node.children)
        return tree.Method(self.word(name), self.settings(settings), self.span(node))

    def _because(self, node: ParseTree | None) -> tree.Text | None:
        return self.text(cast(Token, node.children[0])) if node else None

    def _expect(self, node: ParseTree | None) -> tree.Expect | None:
        if node is None:
            return None
        operator: Any = "=="
        children = cast("list[Any]", node.children)
        if node.data == "expect_compared":
            operator = str(children.pop(0))
        elif node.data == "expect_range":
            operator = ".."
        low, *high = (self.expression(child) for child in children)
        return tree.Expect(operator, low, high[0] if high else None, self.span(node))

    def _only(self, parts: Iterable[ParseTree], sorts: tuple[str, ...], what: str) -> ParseTree | None:
        """The one part of these sorts; E0104 where there are more."""
        first: ParseTree | None = None
        for part in parts:
            if part.data not in sorts:
                continue
            if first is None:
                first = part
                continue
            self.found.add(
                Diagnostic(
                    "E0104",
                    f"a second {what}",
                    self.span(part),
                    labels=(Label(self.span(first), "the first one"),),
                    helps=("keep one of them",),
                )
            )
        return first

    def _missing(self, at: ParseTree | Token, message: str, help: str) -> None:
        span = self.span(at)
        if isinstance(at, Tree):
            span = Span(self.source, span.start, span.start + 1)
        self.found.add(Diagnostic("E0107", message, span, helps=(help,)))
