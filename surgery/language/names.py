"""What the names of a spec refer to: unknown, doubled, circular and unused ones."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from surgery.diagnostics import Diagnostic, Diagnostics, Label
from surgery.language import tree
from surgery.language.nearest import did_you_mean, listed
from surgery.language.scanning import DEEPEST_TREE
from surgery.language.selectors import FACT_SETS, SELECTORS
from surgery.language.walking import children, walk

_VALUE_WORDS = ("true", "false", "none", "count", "json", "not", "and", "or")
_SET_WORDS = (*FACT_SETS, "where")
_SINGLE = {
    tree.GraphFile: "graph",
    tree.Model: "model",
    tree.Inputs: "inputs",
    tree.Weights: "weights",
    tree.Budget: "budget",
}


def check_names(spec: tree.Spec, found: Diagnostics) -> None:
    """Adds E0101, E0104, E0108 and W0904 to `found`."""
    _check_doubles(spec, found)
    _check_reserved(spec, found)
    _check_references(spec, found)
    _check_circles(
        {let.name.name: let.name for let in spec.lets},
        {let.name.name: {n.name for n in walk(let) if isinstance(n, tree.LetName)} for let in spec.lets},
        "is defined by itself",
        found,
    )
    _check_circles(
        {target.name.name: target.name for target in spec.targets},
        {target.name.name: {word.name for word in target.overrides} for target in spec.targets},
        "overrides itself",
        found,
    )
    _check_depth(spec, found)
    _check_used(spec, found)


def _definitions(spec: tree.Spec) -> list[tree.Param | tree.Let]:
    return [statement for statement in spec.statements if isinstance(statement, (tree.Param, tree.Let))]


def _check_doubles(spec: tree.Spec, found: Diagnostics) -> None:
    _only_once((definition.name for definition in _definitions(spec)), "`{}` is defined twice", found)
    _only_once((target.name for target in spec.targets), "there are two targets `{}`", found)
    _only_once(
        (tree.Word(_SINGLE[type(s)], s.span) for s in spec.statements if type(s) in _SINGLE),
        "a spec has one `{}` statement",
        found,
    )
    if spec.weights:
        theirs = (rename.theirs for rename in spec.weights.renames)
        _only_once((tree.Word(text.value, text.span) for text in theirs), "`{}` is mapped twice", found)
    for node in walk(spec):
        settings: tuple[tree.Setting, ...] = getattr(node, "settings", getattr(node, "limits", ()))
        _only_once((setting.name for setting in settings), "`{}` is set twice", found)


def _only_once(words: Iterable[tree.Word], message: str, found: Diagnostics) -> None:
    seen: dict[str, tree.Word] = {}
    for word in words:
        first = seen.setdefault(word.name, word)
        if first is not word:
            found.add(
                Diagnostic(
                    "E0104",
                    message.format(word.name),
                    word.span,
                    labels=(Label(first.span, "the first one"),),
                    helps=("keep one of them, or rename one",),
                )
            )


def _check_reserved(spec: tree.Spec, found: Diagnostics) -> None:
    for statement in _definitions(spec):
        words = _VALUE_WORDS if isinstance(statement, tree.Param) else _SET_WORDS
        if statement.name.name in words:
            found.add(
                Diagnostic(
                    "E0104",
                    f"`{statement.name.name}` is a word of the language",
                    statement.name.span,
                    helps=("choose another name",),
                )
            )


def _check_references(spec: tree.Spec, found: Diagnostics) -> None:
    params = {param.name.name for param in spec.params}
    lets = {let.name.name for let in spec.lets}
    targets = {target.name.name for target in spec.targets}
    for node in walk(spec):
        if isinstance(node, tree.LetName) and node.name not in lets:
            found.add(_unknown_set(node, lets, params))
        elif isinstance(node, tree.Target):
            for word in node.overrides:
                if word.name not in targets:
                    helps = did_you_mean(word.name, targets - {node.name.name}, "name another target of this file")
                    found.add(Diagnostic("E0101", f"there is no target `{word.name}`", word.span, helps=helps))
    for name, is_field in values_named(spec):
        if name.name not in params and not (is_field and name.name in tree.WHERE_FIELDS):
            found.add(_unknown_value(name, params, lets, is_field))


def values_named(node: Any) -> Iterator[tuple[tree.Name, bool]]:
    """The names in value positions; true for those in a `where`, which may be fields of a module."""
    fields = {id(n) for w in walk(node) if isinstance(w, tree.Where) for n in walk(w) if isinstance(n, tree.Name)}
    for name in walk(node):
        if isinstance(name, tree.Name):
            yield name, id(name) in fields


def _unknown_set(node: tree.LetName, lets: set[str], params: set[str]) -> Diagnostic:
    if node.name in params:
        return Diagnostic(
            "E0105",
            f"`{node.name}` is a param, a value; here a set of modules has to stand",
            node.span,
            helps=('write a selector, such as `path("blocks.*")`, or the name of a `let`',),
        )
    helps = did_you_mean(node.name, (*lets, *FACT_SETS), f"define it: let {node.name} = ...")
    if node.name in SELECTORS:
        helps = (f"`{node.name}` is a selector and takes arguments: {node.name}(...)",)
    return Diagnostic("E0101", f"there is no set `{node.name}`", node.span, helps=helps)


def _unknown_value(name: tree.Name, params: set[str], lets: set[str], is_field: bool) -> Diagnostic:
    if name.name in lets:
        return Diagnostic(
            "E0105",
            f"`{name.name}` is a set of modules; here a value has to stand",
            name.span,
            helps=(f"write `count({name.name})` for its size",),
        )
    if is_field:
        fields = listed(tree.WHERE_FIELDS)
        helps = did_you_mean(name.name, (*tree.WHERE_FIELDS, *params), f"`where` knows {fields}")
        return Diagnostic("E0101", f"a module has no `{name.name}` to ask for", name.span, helps=helps)
    otherwise = f"define it, `param {name.name}: int = 16`, or put a string in double quotes"
    helps = did_you_mean(name.name, (*params, "true", "false", "none"), otherwise)
    return Diagnostic("E0101", f"there is no param `{name.name}`", name.span, helps=helps)


def _check_circles(words: dict[str, tree.Word], uses: dict[str, set[str]], what: str, found: Diagnostics) -> None:
    """E0108 for each circle, at its first member: what is left when all that rests on nothing circular is gone."""
    waiting = {name: used & words.keys() for name, used in uses.items()}
    while ready := [name for name, used in waiting.items() if not used & waiting.keys()]:
        for name in ready:
            del waiting[name]
    reported: set[str] = set()
    for name in waiting:
        circle = _circle(name, waiting) if name not in reported else []
        if circle and not reported & set(circle):
            reported.update(circle)
            through = f", through {listed(circle[1:])}" if circle[1:] else ""
            message = f"`{name}` {what}{through}"
            found.add(Diagnostic("E0108", message, words[name].span, helps=("take one of the references out",)))


def _circle(name: str, uses: dict[str, set[str]]) -> list[str]:
    """The names on a shortest way from `name` back to it, `name` first; empty if there is none."""
    ways = {name: [name]}
    pending = [name]
    while pending:
        at = pending.pop(0)
        for used in sorted(uses.get(at, set())):
            if used == name:
                return ways[at]
            if used not in ways:
                ways[used] = [*ways[at], used]
                pending.append(used)
    return []


def _check_depth(spec: tree.Spec, found: Diagnostics) -> None:
    """E0008 for a statement that nests too deeply with the lets spelled out: every later pass recurses over them."""
    lets = {let.name.name: let for let in spec.lets}
    uses = {name: {n.name for n in walk(let) if isinstance(n, tree.LetName)} for name, let in lets.items()}
    depths: dict[str, int] = {}
    while ready := [name for name, used in uses.items() if not used & uses.keys()]:
        for name in ready:
            del uses[name]
            depths[name] = _depth(lets[name].value, depths)
    for statement in spec.statements:
        if _depth(statement, depths) > DEEPEST_TREE:
            span = statement.name.span if isinstance(statement, (tree.Let, tree.Target)) else statement.span
            message = f"this nests more than {DEEPEST_TREE} deep, with the lets that it uses"
            found.add(Diagnostic("E0008", message, span, helps=("give one selector several arguments",)))
            return


def _depth(node: Any, lets: Mapping[str, int]) -> int:
    if isinstance(node, tree.LetName):
        return 1 + lets.get(node.name, 0)
    return 1 + max((_depth(child, lets) for child in children(node)), default=0)


def _check_used(spec: tree.Spec, found: Diagnostics) -> None:
    used = {node.name for node in walk(spec) if isinstance(node, (tree.Name, tree.LetName))}
    for statement in _definitions(spec):
        if statement.name.name not in used:
            found.add(
                Diagnostic(
                    "W0904",
                    f"`{statement.name.name}` is never used",
                    statement.name.span,
                    helps=("use it, or remove it",),
                )
            )
