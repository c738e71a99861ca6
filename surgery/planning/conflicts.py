"""Claims that cannot all be granted: two targets on one module, training what is adapted, storage in common."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations

from surgery.diagnostics import Diagnostic, Diagnostics, Label
from surgery.graph import Graph
from surgery.language import tree
from surgery.language.nearest import listed
from surgery.planning.claims import Claim
from surgery.planning.matching import ModuleTree
from surgery.planning.words import counted, shown, some


def settle(claims: Sequence[Claim], found: Diagnostics) -> list[Claim]:
    """The claims of targets, with one claim on each module: E0302 where no target `overrides` its rivals.

    Where nobody wins, the first target keeps the module, so that later checks still see it.
    """
    above = _overriding(claims)
    rivals: dict[str, list[Claim]] = {}
    for claim in claims:
        for path in claim.modules:
            rivals.setdefault(path, []).append(claim)
    kept: dict[str, list[str]] = {claim.name: [] for claim in claims}
    clashes: dict[tuple[str, ...], list[str]] = {}
    for path, claimants in rivals.items():
        names = [claim.name for claim in claimants]
        winner = _winner(names, above)
        kept[winner or names[0]].append(path)
        if winner is None:
            clashes.setdefault(tuple(names), []).append(path)
    named = {claim.name: claim for claim in claims}
    for names_, paths in clashes.items():
        found.add(_clash([named[name] for name in names_], paths, above))
    return [claim.narrowed(kept[claim.name]) for claim in claims]


def _overriding(claims: Iterable[Claim]) -> dict[str, set[str]]:
    """For each target, those it overrides, directly or through another."""
    above = {c.name: {w.name for w in c.statement.overrides} for c in claims if isinstance(c.statement, tree.Target)}
    for middle in above:
        for below in above.values():
            if middle in below:
                below |= above[middle]
    return above


def _winner(names: Sequence[str], above: Mapping[str, set[str]]) -> str | None:
    """The one that overrides all others. The language lets no target override itself, so there is at most one."""
    return next((name for name in names if all(other in above[name] for other in names if other != name)), None)


def _clash(claims: Sequence[Claim], paths: Sequence[str], above: Mapping[str, set[str]]) -> Diagnostic:
    """E0302, with the way out for the first two of which neither overrides the other."""
    first, second = next(
        (one, other)
        for one, other in combinations(claims, 2)
        if one.name not in above[other.name] and other.name not in above[one.name]
    )
    names = listed(claim.name for claim in claims)
    return Diagnostic(
        "E0302",
        f"targets {names} {'both' if len(claims) == 2 else 'all'} claim {counted(len(paths), 'module')}",
        second.span,
        label=f"selects {some(paths)}",
        labels=tuple(Label(claim.span, f"`{claim.name}` claims them too") for claim in claims if claim is not second),
        helps=(
            f"let one win with `target {second.name} overrides {first.name}`",
            "or take the modules out of one of them with `except`",
        ),
    )


def check_trained(claims: Iterable[Claim], trains: Iterable[Claim], tree_: ModuleTree, found: Diagnostics) -> None:
    """E0308: a module cannot be trained in full and adapted; nor can one inside the other."""
    trains = list(trains)
    for claim in claims:
        for train in trains:
            trained = frozenset(train.modules)
            around = tree_.containing(trained)
            both = [path for path in claim.modules if path in trained or path in around]
            if both:
                found.add(
                    Diagnostic(
                        "E0308",
                        f"{claim.subject} adapts {counted(len(both), 'module')} that `train` trains in full",
                        claim.span,
                        label=f"selects {some(both)}",
                        labels=(Label(train.span, "trained here"),),
                        helps=("take them out of one of the two with `except`",),
                    )
                )


def check_tied(graph: Graph, claims: Iterable[Claim], found: Diagnostics) -> None:
    """E0307: adapting or training one of several modules that share storage changes, or parts, the others."""
    for claim in claims:
        tied = [path for path in claim.modules if graph[path].tied]
        if isinstance(claim.statement, tree.Train):
            tied = [path for path in tied if not set(graph[path].tied) <= set(claim.modules)]
        if tied:
            found.add(_tied(graph, claim, tied))


def _tied(graph: Graph, claim: Claim, paths: Sequence[str]) -> Diagnostic:
    return Diagnostic(
        "E0307",
        f"{claim.subject} {claim.verb} {counted(len(paths), 'module')} with shared storage",
        claim.span,
        label=f"selects {some(paths)}",
        notes=tuple(f"{path} shares storage with {', '.join(map(shown, graph[path].tied))}" for path in paths[:8]),
        helps=("take tied modules out with `except tied`, or untie them in the model",),
    )
