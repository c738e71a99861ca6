"""What each target and each `train` claims, once exclusions are taken off. Nothing is built here."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from surgery.diagnostics import Diagnostic, Span
from surgery.graph import Graph
from surgery.language import tree
from surgery.planning.counts import check_expect
from surgery.planning.evidence import notes_by_evidence
from surgery.planning.plan import Exclusion
from surgery.planning.select import Selector
from surgery.planning.selection import Selection, union
from surgery.planning.words import quantity, selector_text, shown, some


@dataclass(frozen=True)
class Claim:
    """What a target or a `train` wants to touch: modules and, of a target, parameters, in the order of the model.

    Of a `train`, `paths` are the modules chosen and all that lie inside them.
    """

    statement: tree.Target | tree.Train
    paths: tuple[str, ...]
    excluded: tuple[Exclusion, ...] = ()

    @property
    def name(self) -> str:
        return self.statement.name.name if isinstance(self.statement, tree.Target) else "train"

    @property
    def subject(self) -> str:
        """As the start of a message."""
        return f"target `{self.name}`" if isinstance(self.statement, tree.Target) else "`train`"

    @property
    def verb(self) -> str:
        return "adapts" if isinstance(self.statement, tree.Target) else "trains"

    @property
    def span(self) -> Span:
        return self.statement.select.span

    def narrowed(self, paths: Iterable[str]) -> Claim:
        """The same claim on less."""
        kept = frozenset(paths)
        return Claim(self.statement, tuple(path for path in self.paths if path in kept), self.excluded)


def is_on(selector: Selector, statement: tree.Target | tree.Train) -> bool:
    """Whether the `when` of a statement holds; without one it does."""
    return statement.when is None or bool(selector.spec.evaluate(statement.when))


def claim_of_target(selector: Selector, target: tree.Target, excludes: Iterable[tree.Exclude]) -> Claim:
    """What a target adapts: its `select`, less its `except`s, less every `exclude`."""
    chosen = selector(target.select, strict=True)
    left = chosen
    excluded: dict[str, Exclusion] = {}
    takers: list[tuple[tree.Set, str]] = [(node, "") for node in target.except_]
    takers += [(node.value, node.because.value if node.because else "") for node in excludes]
    for node, because in takers:
        taken = selector(node)
        if around := _only_around(selector, chosen, taken):
            selector.found.add(_idle(selector, target, node, around))
        for path in selector.ordered(left.members & taken.yes):
            excluded[path] = Exclusion(
                path=path,
                because=because,
                selector=selector_text(node),
                place=node.span.place,
                target=target.name.name,
            )
        left = left - taken
    taken_off = tuple(excluded[path] for path in selector.ordered(excluded))
    claim = Claim(target, selector.ordered(left.members), taken_off)
    _check_choice(selector, claim, chosen, left.doubtful)
    return claim


def _only_around(selector: Selector, chosen: Selection, taken: Selection) -> tuple[str, ...]:
    """What of an exclusion contains, or is a parameter of, what is chosen, where it takes nothing chosen itself."""
    if (chosen.members | chosen.doubtful.keys()) & taken.possible:
        return ()
    around = taken.members & selector.tree.containing(chosen.members)
    held = {path for path in taken.members if path not in selector.graph and _holder(path) in chosen.members}
    return selector.ordered(around | held)


def _holder(parameter: str) -> str:
    return parameter.rpartition(".")[0]


def _idle(selector: Selector, target: tree.Target, node: tree.Set, around: tuple[str, ...]) -> Diagnostic:
    text = selector_text(node)
    if around[0] in selector.graph:
        why, help = "modules that contain some of its", f"write `inside({text})` to take what is inside of them"
    else:
        why, help = "parameters of its modules", "take the modules that hold them"
    return Diagnostic(
        "W0905",
        f"`{text}` takes nothing from target `{target.name.name}`, though it has {why}",
        node.span,
        label=f"has {some(around)}",
        helps=(f"{help}, or remove it",),
    )


def claim_of_train(selector: Selector, train: tree.Train) -> Claim:
    """The modules a `train` trains: those it selects with all inside them, less its `except`s with all inside those."""
    chosen = selector(train.select, strict=True)
    taken = union(selector(node) for node in train.except_)
    around, graph = _with_inside(selector, chosen), selector.graph
    left = around - _with_inside(selector, taken)
    claim = Claim(train, selector.ordered(path for path in left.members if path in graph))
    named = Claim(train, selector.ordered(chosen.members - taken.yes))
    _check_choice(selector, named, chosen, left.doubtful)
    singled_out = [path for path in named.paths if path not in graph]
    kept = [path for path in taken.members if path not in graph and _holder(path) in around.members]
    if singled_out or kept:
        selector.found.add(_no_whole_module(graph, claim, selector.ordered(singled_out or kept), bool(singled_out)))
    elif named.paths and not any(graph[path].parameters for path in claim.paths):
        selector.found.add(_nothing_to_train(named))
    return claim


def _no_whole_module(graph: Graph, claim: Claim, paths: tuple[str, ...], is_trained: bool) -> Diagnostic:
    """E0406 where a `train` selects parameters, or takes some out of the modules it trains."""
    what = "trains" if is_trained else "leaves out"
    return Diagnostic(
        "E0406",
        f"`train` {what} {quantity(graph, paths)}, and PEFT trains and saves whole modules",
        claim.span,
        label=f"{what} {some(paths)}",
        helps=(f"decide on the module that holds it, {shown(_holder(paths[0]))}, as in `path(...)`",),
    )


def _with_inside(selector: Selector, chosen: Selection) -> Selection:
    yes = chosen.members | selector.tree.inside(chosen.members)
    maybe = {path: why for top, why in chosen.doubtful.items() for path in (top, *selector.tree.inside([top]))}
    return Selection(yes, {path: why for path, why in maybe.items() if path not in yes})


def _check_choice(selector: Selector, claim: Claim, chosen: Selection, maybe: Mapping[str, str]) -> None:
    """E0201 if nothing is chosen, E0205 if that is not known, E0203 if it is not what the author expected."""
    expect = claim.statement.expect
    if maybe:
        selector.found.add(in_doubt(selector.graph, claim.subject, claim.span, selector.ordered(maybe), maybe))
    elif selector.is_reported(claim.statement.select):
        return  # a part that matches nothing was reported: what follows from it is no news
    elif not chosen.possible:
        selector.found.add(nothing_chosen(claim.subject, claim.span))
    elif expect:
        of = (claim.statement.select, *claim.statement.except_)
        check_expect(selector, expect, claim.paths, claim.subject, of, _taken(selector.graph, claim))
    elif not claim.paths:
        selector.found.add(_all_taken(selector.graph, claim))


def _taken(graph: Graph, claim: Claim) -> tuple[str, ...]:
    """What exclusions took from a claim, each with its place."""
    per_exclusion: dict[str, list[str]] = {}
    for taken in claim.excluded:
        per_exclusion.setdefault(f"`{taken.selector}` at {taken.place}", []).append(taken.path)
    return tuple(f"{exclusion} took {quantity(graph, paths)}" for exclusion, paths in per_exclusion.items())


def nothing_chosen(subject: str, span: Span) -> Diagnostic:
    """E0201 for a set that is empty though none of its parts is."""
    return Diagnostic(
        "E0201",
        f"{subject} selects nothing",
        span,
        label="each part matches something, but nothing matches all of them",
        helps=("loosen one of the parts; `surgery facts` lists modules with their classes and roles",),
    )


def _nothing_to_train(claim: Claim) -> Diagnostic:
    return Diagnostic(
        "E0201",
        "`train` selects no parameter",
        claim.span,
        label=f"{some(claim.paths)} {'has' if len(claim.paths) == 1 else 'have'} none",
        helps=("select the modules that hold the parameters; `surgery explain F.surg MODULE` lists them",),
    )


def _all_taken(graph: Graph, claim: Claim) -> Diagnostic:
    return Diagnostic(
        "E0201",
        f"{claim.subject} has nothing left: exclusions take all that it selects",
        claim.span,
        notes=_taken(graph, claim),
        helps=("write `expect 0` if that is meant, or remove the target",),
    )


def in_doubt(graph: Graph, subject: str, span: Span, paths: tuple[str, ...], why: Mapping[str, str]) -> Diagnostic:
    """E0205 for what may be in a set, where that is not known."""
    first = f'{"path" if paths[0] in graph else "param"}("{paths[0]}")'
    return Diagnostic(
        "E0205",
        f"it is not known whether {subject} takes {quantity(graph, paths)}",
        span,
        label=f"may select {some(paths)}",
        notes=notes_by_evidence(paths, why.__getitem__),
        helps=(f"take it out, as in `- {first}`, or vouch for the fact with `assume`",),
    )
