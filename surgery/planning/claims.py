"""What each target and each `train` claims, once exclusions are taken off. Nothing is built here."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from surgery.diagnostics import Diagnostic, Span
from surgery.language import tree
from surgery.planning.counts import check_expect
from surgery.planning.evidence import notes_by_evidence
from surgery.planning.plan import Exclusion
from surgery.planning.select import Selector
from surgery.planning.selection import Selection, union
from surgery.planning.words import counted, selector_text, some


@dataclass(frozen=True)
class Claim:
    """What a target or a `train` wants to touch: module paths in the order of the model.

    Of a `train`, `modules` are those chosen and all that lies inside them.
    """

    statement: tree.Target | tree.Train
    modules: tuple[str, ...]
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

    def narrowed(self, modules: Iterable[str]) -> Claim:
        """The same claim on fewer modules."""
        kept = frozenset(modules)
        return Claim(self.statement, tuple(path for path in self.modules if path in kept), self.excluded)


def is_on(selector: Selector, statement: tree.Target | tree.Train) -> bool:
    """Whether the `when` of a statement holds; without one it does."""
    return statement.when is None or bool(selector.spec.evaluate(statement.when))


def claim_of_target(selector: Selector, target: tree.Target, excludes: Iterable[tree.Exclude]) -> Claim:
    """The modules a target adapts: its `select`, less its `except`s, less every `exclude`."""
    chosen = selector(target.select, strict=True)
    left = chosen
    excluded: dict[str, Exclusion] = {}
    takers: list[tuple[tree.Set, str]] = [(node, "") for node in target.except_]
    takers += [(node.value, node.because.value if node.because else "") for node in excludes]
    for node, because in takers:
        taken = selector(node)
        if around := _only_around(selector, chosen, taken):
            selector.found.add(_idle(target, node, around))
        for path in selector.ordered(left.yes & taken.yes):
            excluded[path] = Exclusion(
                path=path,
                because=because,
                selector=selector_text(node),
                place=node.span.place,
                target=target.name.name,
            )
        left = left - taken
    claim = Claim(target, selector.ordered(left.yes), tuple(excluded[path] for path in selector.ordered(excluded)))
    _check_choice(selector, claim, chosen, left.maybe)
    return claim


def _only_around(selector: Selector, chosen: Selection, taken: Selection) -> tuple[str, ...]:
    """The modules of an exclusion that contain chosen ones, where it takes no chosen one itself."""
    if chosen.possible & taken.possible:
        return ()
    return selector.ordered(taken.yes & selector.tree.containing(chosen.yes))


def _idle(target: tree.Target, node: tree.Set, around: tuple[str, ...]) -> Diagnostic:
    text = selector_text(node)
    return Diagnostic(
        "W0905",
        f"`{text}` takes no module from target `{target.name.name}`, though it has modules that contain some of its",
        node.span,
        label=f"has {some(around)}",
        helps=(f"write `inside({text})` to take what is inside of them, or remove it",),
    )


def claim_of_train(selector: Selector, train: tree.Train) -> Claim:
    """The modules a `train` trains: those it selects with all inside them, less its `except`s with all inside those."""
    chosen = selector(train.select, strict=True)
    taken = union(selector(node) for node in train.except_)
    left = _with_inside(selector, chosen) - _with_inside(selector, taken)
    claim = Claim(train, selector.ordered(left.yes))
    named = Claim(train, selector.ordered(chosen.yes - taken.yes))
    _check_choice(selector, named, chosen, left.maybe)
    if named.modules and not any(selector.graph[path].parameters for path in claim.modules):
        selector.found.add(_nothing_to_train(named))
    return claim


def _with_inside(selector: Selector, chosen: Selection) -> Selection:
    yes = chosen.yes | selector.tree.inside(chosen.yes)
    maybe = {path: why for top, why in chosen.maybe.items() for path in (top, *selector.tree.inside([top]))}
    return Selection(yes, {path: why for path, why in maybe.items() if path not in yes})


def _check_choice(selector: Selector, claim: Claim, chosen: Selection, maybe: Mapping[str, str]) -> None:
    """E0201 if nothing is chosen, E0205 if that is not known, E0203 if it is not what the author expected."""
    expect = claim.statement.expect
    if maybe:
        selector.found.add(in_doubt(claim.subject, claim.span, selector.ordered(maybe), maybe))
    elif selector.is_reported(claim.statement.select):
        return  # a part that matches nothing was reported: what follows from it is no news
    elif not chosen.possible:
        selector.found.add(nothing_chosen(claim.subject, claim.span))
    elif expect:
        of = (claim.statement.select, *claim.statement.except_)
        check_expect(selector, expect, claim.modules, claim.subject, of, _taken(claim))
    elif not claim.modules:
        selector.found.add(_all_taken(claim))


def _taken(claim: Claim) -> tuple[str, ...]:
    """What exclusions took from a claim, each with its place."""
    per_exclusion = Counter(f"`{taken.selector}` at {taken.place}" for taken in claim.excluded)
    return tuple(f"{exclusion} took {counted(count, 'module')}" for exclusion, count in per_exclusion.items())


def nothing_chosen(subject: str, span: Span) -> Diagnostic:
    """E0201 for a set that is empty though none of its parts is."""
    return Diagnostic(
        "E0201",
        f"{subject} selects no module",
        span,
        label="each part matches something, but nothing matches all of them",
        helps=("loosen one of the parts; `surgery facts` lists modules with their classes and roles",),
    )


def _nothing_to_train(claim: Claim) -> Diagnostic:
    return Diagnostic(
        "E0201",
        "`train` selects no parameter",
        claim.span,
        label=f"{some(claim.modules)} {'has' if len(claim.modules) == 1 else 'have'} none",
        helps=("select the modules that hold the parameters; `surgery explain F.surg MODULE` lists them",),
    )


def _all_taken(claim: Claim) -> Diagnostic:
    return Diagnostic(
        "E0201",
        f"{claim.subject} has no module left: exclusions take all that it selects",
        claim.span,
        notes=_taken(claim),
        helps=("write `expect 0` if that is meant, or remove the target",),
    )


def in_doubt(subject: str, span: Span, paths: tuple[str, ...], why: Mapping[str, str]) -> Diagnostic:
    """E0205 for modules of which it is not known whether they are in a set."""
    first = paths[0]
    return Diagnostic(
        "E0205",
        f"it is not known whether {subject} takes {counted(len(paths), 'module')}",
        span,
        label=f"may select {some(paths)}",
        notes=notes_by_evidence(paths, why.__getitem__),
        helps=(f'take it out, as in `- path("{first}")`, or vouch for the fact with `assume`',),
    )
