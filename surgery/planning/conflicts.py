"""Claims that cannot all be granted: two targets on one place, training what is adapted, storage in common."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations

from surgery.diagnostics import Diagnostic, Diagnostics, Label
from surgery.graph import Graph
from surgery.language import tree
from surgery.language.nearest import listed
from surgery.planning.claims import Claim
from surgery.planning.facts import shares_storage
from surgery.planning.matching import ModuleTree
from surgery.planning.words import quantity, shown, some


def settle(graph: Graph, claims: Sequence[Claim], found: Diagnostics) -> list[Claim]:
    """The claims of targets, with one claim on each place: E0302 where no target `overrides` its rivals.

    A place is a module, or a parameter; a target on a module is a rival of those on its parameters. Where nobody
    wins, the first target keeps the place, so that later checks still see it.
    """
    above = _overriding(claims)
    claimants: dict[str, list[str]] = {}
    for claim in claims:
        for path in claim.paths:
            claimants.setdefault(path, []).append(claim.name)
    rivals = _rivals(graph, claimants)
    kept: dict[str, list[str]] = {claim.name: [] for claim in claims}
    clashes: dict[tuple[str, ...], list[str]] = {}
    for path, own in claimants.items():
        names = rivals.get(path, own)
        winner = _winner(names, above)
        if winner is None or winner in own:
            kept[winner or own[0]].append(path)
        if winner is None:
            clashes.setdefault(tuple(names), []).append(path)
    named = {claim.name: claim for claim in claims}
    for names_, paths in clashes.items():
        found.add(_clash(graph, [named[name] for name in names_], paths, above))
    found.extend(_twice(graph, claim) for claim in claims if _halves(graph, claim))
    return [claim.narrowed(kept[claim.name]) for claim in claims]


def _rivals(graph: Graph, claimants: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
    """The targets that claim a module or one of its parameters, for every such place where they are several."""
    per_module: dict[str, list[str]] = {}
    for path in claimants:
        if path not in graph and graph.holder(path).path in claimants:
            per_module.setdefault(graph.holder(path).path, []).append(path)
    found: dict[str, list[str]] = {}
    for module, parameters in per_module.items():
        names = list(dict.fromkeys(name for path in (module, *parameters) for name in claimants[path]))
        if len(names) > 1:
            found |= dict.fromkeys((module, *parameters), names)
    return found


def _halves(graph: Graph, claim: Claim) -> list[str]:
    """The parameters that a target claims beside the module that holds them."""
    paths = frozenset(claim.paths)
    return [path for path in claim.paths if path not in graph and graph.holder(path).path in paths]


def _twice(graph: Graph, claim: Claim) -> Diagnostic:
    paths = _halves(graph, claim)
    them = "it" if len(paths) == 1 else "them"
    return Diagnostic(
        "E0302",
        f"{claim.subject} claims {quantity(graph, paths)} with the module that holds {them}",
        claim.span,
        label=f"selects {some(paths)}",
        helps=("select the module, or its parameters: PEFT gives one of them an adapter, not both",),
    )


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


def _clash(graph: Graph, claims: Sequence[Claim], paths: Sequence[str], above: Mapping[str, set[str]]) -> Diagnostic:
    """E0302, with the way out for the first two of which neither overrides the other."""
    first, second = next(
        (one, other)
        for one, other in combinations(claims, 2)
        if one.name not in above[other.name] and other.name not in above[one.name]
    )
    names = listed(claim.name for claim in claims)
    return Diagnostic(
        "E0302",
        f"targets {names} {'both' if len(claims) == 2 else 'all'} claim {quantity(graph, paths)}",
        second.span,
        label=f"selects {some(paths)}",
        labels=tuple(Label(claim.span, f"`{claim.name}` claims them too") for claim in claims if claim is not second),
        helps=(
            f"let one win with `target {second.name} overrides {first.name}`",
            "or take what they share out of one of them with `except`",
        ),
    )


def check_trained(
    graph: Graph, claims: Iterable[Claim], trains: Iterable[Claim], tree_: ModuleTree, found: Diagnostics
) -> None:
    """E0308: a module cannot be trained in full and adapted, nor one of its parameters; nor can one be in the other."""
    trains = list(trains)
    for claim in claims:
        for train in trains:
            trained = frozenset(train.paths)
            around = tree_.containing(trained)
            both = [path for path in claim.paths if graph.holder(path).path in trained | around]
            if both:
                found.add(
                    Diagnostic(
                        "E0308",
                        f"{claim.subject} adapts {quantity(graph, both)} that `train` trains in full",
                        claim.span,
                        label=f"selects {some(both)}",
                        labels=(Label(train.span, "trained here"),),
                        helps=("take them out of one of the two with `except`",),
                    )
                )


def check_tied(graph: Graph, claims: Iterable[Claim], found: Diagnostics) -> None:
    """E0307: adapting or training one of several modules that share storage changes, or parts, the others."""
    for claim in claims:
        tied = [path for path in claim.paths if _sharing(graph, path)]
        if isinstance(claim.statement, tree.Train):
            tied = [path for path in tied if not set(graph[path].tied) <= set(claim.paths)]
        if tied:
            found.add(_tied(graph, claim, tied))


def _sharing(graph: Graph, path: str) -> Sequence[str]:
    """What shares storage with a module or a parameter: modules, or other names of it in the same one."""
    holder, parameter = graph.holder(path), graph.parameter(path)
    if parameter is None:
        return holder.tied
    if not shares_storage(graph, holder, parameter):
        return ()
    again = [p for p in holder.parameters if p.storage == parameter.storage and p is not parameter]
    return [*holder.tied, *(f"{holder.path}.{p.name}" for p in again)]


def _tied(graph: Graph, claim: Claim, paths: Sequence[str]) -> Diagnostic:
    return Diagnostic(
        "E0307",
        f"{claim.subject} {claim.verb} {quantity(graph, paths)} with shared storage",
        claim.span,
        label=f"selects {some(paths)}",
        notes=tuple(f"{path} shares storage with {', '.join(map(shown, _sharing(graph, path)))}" for path in paths[:8]),
        helps=("take tied modules out with `except tied`, or untie them in the model",),
    )
