"""Lark's parse tree of sets of modules to nodes of the syntax tree."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Literal, cast, get_args

from lark import Token

from surgery.diagnostics import Diagnostic, Span
from surgery.graph import ROLES, InitValue
from surgery.language import tree
from surgery.language.expressions import ExpressionBuilder, ParseTree
from surgery.language.nearest import did_you_mean, listed

RELATIONS: tuple[str, ...] = ("inside", "containing", "feeds", "fed_by", "reaches", "reached_by")
FACT_SETS = ("tied", "bypassed", "unreached", "all")
INIT_WORDS = tuple(word for word in get_args(InitValue) if word != "unknown")
SELECTORS = ("path", "param", "kind", "role", "init", *RELATIONS, "index", "where")
_EXAMPLES = {
    "path": 'path("blocks.*")',
    "param": 'param("**.experts.down_proj")',
    "kind": "kind(Linear)",
    "role": "role(modulation)",
    "init": "init(zero)",
    "index": 'index(path("blocks.*"), 0:4)',
    **{relation: f'{relation}(path("blocks.*"))' for relation in RELATIONS},
}
_RESERVED = {
    "flow": ("will select modules by the ops their output runs through", "for now use `role(...)` or `path(...)`"),
}
_SET_OPERATORS: dict[str, Literal["|", "&", "-"]] = {"union": "|", "intersect": "&", "without": "-"}


class SelectorBuilder(ExpressionBuilder):
    """Builds sets of modules. A set that is wrong becomes the empty `path()`, so that its users can be checked."""

    def set(self, node: ParseTree) -> tree.Set:
        span = self.span(node)
        if node.data in _SET_OPERATORS:
            left, right = (self.set(cast(ParseTree, child)) for child in node.children)
            return tree.Combined(_SET_OPERATORS[node.data], left, right, span)
        if node.data == "where":
            return tree.Where(self.expression(cast(ParseTree, node.children[0])), span)
        name, arguments = str(node.children[0]), [cast(ParseTree, child) for child in node.children[1:] if child]
        if node.data == "call":
            return self._call(cast(Token, node.children[0]), arguments, span)
        assert node.data == "set_name"
        if name in FACT_SETS:
            return tree.FactSet(cast(Literal["tied"], name), span)
        return tree.LetName(name, span)

    def _call(self, name: Token, arguments: list[ParseTree], span: Span) -> tree.Set:
        if name in _RESERVED:
            meaning, way_out = _RESERVED[name]
            return self._wrong(
                "E0007", f"`{name}(...)` is reserved for a later edition", self.span(name), (way_out,), f"it {meaning}"
            )
        if name not in SELECTORS:
            helps = did_you_mean(name, SELECTORS, f"the selectors are {', '.join([*SELECTORS, *FACT_SETS])}")
            if name in FACT_SETS:
                helps = (f"write `{name}` without parentheses",)
            return self._wrong("E0102", f"there is no selector `{name}(...)`", self.span(name), helps)
        if not arguments:
            return self._wrong("E0107", f"`{name}` has no argument", span, (f"write {_EXAMPLES[name]}",))
        build: dict[str, Callable[[str, list[ParseTree], Span], tree.Set]] = {
            "path": self._globs,
            "param": self._globs,
            "kind": self._words,
            "role": self._words,
            "init": self._words,
            "index": self._indexed,
        }
        return build.get(name, self._related)(str(name), arguments, span)

    def _wrong(self, code: str, message: str, span: Span, helps: tuple[str, ...], note: str = "") -> tree.Set:
        self.found.add(Diagnostic(code, message, span, helps=helps, notes=(note,) if note else ()))
        return tree.Paths((), span)

    def _wrong_argument(self, selector: str, what: str, argument: ParseTree) -> tree.Set:
        return self._wrong(
            "E0105", f"`{selector}` takes {what}", self.span(argument), (f"write {_EXAMPLES[selector]}",)
        )

    def _globs(self, name: str, arguments: list[ParseTree], span: Span) -> tree.Set:
        wrong = next((argument for argument in arguments if argument.data != "glob"), None)
        if wrong is not None:
            return self._wrong_argument(name, "globs in double quotes", wrong)
        globs = tuple(self.text(cast(Token, argument.children[0])) for argument in arguments)
        return tree.Paths(globs, span) if name == "path" else tree.Parameters(globs, span)

    def _words(self, name: str, arguments: list[ParseTree], span: Span) -> tree.Set:
        words: list[tree.Word] = []
        pending = arguments[::-1]
        while pending:  # `init(zero | constant)` means the same as `init(zero, constant)`
            argument = pending.pop()
            if argument.data == "union":
                pending.extend(cast(list[ParseTree], argument.children[::-1]))
            elif argument.data == "set_name":
                words.append(self.word(cast(Token, argument.children[0])))
            else:
                return self._wrong_argument(name, "plain words, without quotes", argument)
        if name == "kind":
            return tree.Kinds(tuple(words), span)
        known, what = (ROLES, "role") if name == "role" else (INIT_WORDS, "init value")
        self._check_words(words, known, what)
        return (tree.Roles if name == "role" else tree.Inits)(tuple(words), span)

    def _check_words(self, words: Iterable[tree.Word], known: Iterable[str], what: str) -> None:
        for word in words:
            if word.name not in known:
                helps = did_you_mean(word.name, known, f"the {what}s are {listed(known)}")
                self.found.add(Diagnostic("E0103", f"there is no {what} `{word.name}`", word.span, helps=helps))

    def _related(self, name: str, arguments: list[ParseTree], span: Span) -> tree.Set:
        wrong = next((argument for argument in arguments if argument.data in ("glob", "slice")), None)
        if wrong is not None:
            return self._wrong_argument(name, "a set", wrong)
        if len(arguments) > 1:
            helps = (f"join the sets with `|`: {name}(a | b)",)
            return self._wrong("E0105", f"`{name}` takes one set", self.span(arguments[1]), helps)
        return tree.Related(cast(Literal["inside"], name), self.set(arguments[0]), span)

    def _indexed(self, name: str, arguments: list[ParseTree], span: Span) -> tree.Set:
        of, *slices = arguments
        if of.data in ("glob", "slice"):
            return self._wrong_argument(name, "a set, then slices", of)
        if not slices:
            return self._wrong("E0107", "`index` has no slice", span, (f"write {_EXAMPLES[name]}",))
        wrong = next((argument for argument in slices if argument.data != "slice"), None)
        if wrong is not None:
            return self._wrong_argument(name, "a set, then slices such as `0:11`", wrong)
        return tree.Indexed(self.set(of), tuple(self._slice(argument) for argument in slices), span)

    def _slice(self, argument: ParseTree) -> tree.Slice:
        bounds: list[Any] = [int(part) if part else None for part in str(argument.children[0]).split(":")]
        span = self.span(argument)
        if len(bounds) == 1:
            return tree.Slice(bounds[0], None, None, True, span)
        if len(bounds) == 3 and bounds[2] == 0:
            self.found.add(
                Diagnostic("E0105", "a slice cannot have step 0", span, helps=("the step is 1 or more: `::2`",))
            )
        return tree.Slice(bounds[0], bounds[1], bounds[2] if len(bounds) == 3 else None, False, span)
