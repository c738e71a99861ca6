"""Whether the adapters that are asked for would run, and learn."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from surgery.diagnostics import Diagnostic, Diagnostics
from surgery.graph import Fact, Graph
from surgery.planning.claims import Claim
from surgery.planning.evidence import notes_by_evidence
from surgery.planning.words import counted, quantity, some


def check_reach(graph: Graph, claims: Sequence[Claim], found: Diagnostics) -> None:
    """E0305 bypassed, E0306 never run, W0908 not known to be neither."""
    for claim in claims:

        def having(answer: str, fact: Callable[[str], Fact], claim: Claim = claim) -> list[str]:
            return [path for path in claim.paths if fact(path).answer == answer]

        if bypassed := having("yes", lambda path: graph.holder(path).bypassed):
            found.add(_bypassed(graph, claim, bypassed))
        if unreached := having("yes", lambda path: graph.holder(path).unreached):
            found.add(_unreached(graph, claim, unreached))
        unknown = having("unknown", lambda path: graph.holder(path).bypassed)
        unknown += having("unknown", lambda path: graph.holder(path).unreached)
        if unknown := list(dict.fromkeys(unknown)):
            found.add(_unknown(graph, claim, unknown))


def check_trains_run(graph: Graph, trains: Sequence[Claim], found: Diagnostics) -> None:
    """E0306 for modules with parameters that a `train` selects and that never run."""
    for train in trains:
        idle = [path for path in train.paths if graph[path].parameters and graph[path].unreached.answer == "yes"]
        if idle:
            found.add(_unreached(graph, train, idle))


def check_gradient(graph: Graph, claims: Sequence[Claim], found: Diagnostics) -> None:
    """W0906, once for all targets: what cuts one of them off, such as a zero output layer, cuts off most.

    Said of a plan without errors only: what will not be applied need not learn.
    """
    if found.has_errors:
        return

    def is_cut(path: str) -> bool:
        module = graph.holder(path)
        return module.gradient.answer == "no" and module.unreached.answer == "no"

    cut = [claim.narrowed(filter(is_cut, claim.paths)) for claim in claims]
    idle = [claim for claim in cut if claim.paths]
    if idle:
        found.add(_idle(graph, idle, [path for claim in idle for path in claim.paths]))


def _bypassed(graph: Graph, claim: Claim, paths: Sequence[str]) -> Diagnostic:
    return Diagnostic(
        "E0305",
        f"{claim.subject} adapts {quantity(graph, paths)} {_read_around(graph, paths)}",
        claim.span,
        label=f"selects {some(paths)}",
        notes=notes_by_evidence(paths, lambda path: graph.holder(path).bypassed.evidence),
        helps=("an adapter there would be skipped; take bypassed modules out with `except bypassed`",),
    )


def _read_around(graph: Graph, paths: Sequence[str]) -> str:
    them = "it" if len(paths) == 1 else "them"
    if any(path not in graph for path in paths):
        return f"read without calling the module that holds {them}"
    return f"whose parameters are read without calling {them}"


def _unreached(graph: Graph, claim: Claim, paths: Sequence[str]) -> Diagnostic:
    return Diagnostic(
        "E0306",
        f"{claim.subject} {claim.verb} {quantity(graph, paths)} that never"
        f" {'runs' if len(paths) == 1 else 'run'} in the example call",
        claim.span,
        label=f"selects {some(paths)}",
        notes=notes_by_evidence(paths, lambda path: graph.holder(path).unreached.evidence),
        helps=(
            "take them out with `except unreached`",
            "or, if your training calls them, write `inputs` that do and capture again",
        ),
    )


def _unknown(graph: Graph, claim: Claim, paths: Sequence[str]) -> Diagnostic:
    def evidence(path: str) -> str:
        module = graph.holder(path)
        facts = (module.bypassed, module.unreached)
        return "; ".join(fact.evidence for fact in facts if fact.answer == "unknown" and fact.evidence)

    return Diagnostic(
        "W0908",
        f"it is not known whether adapters on {quantity(graph, paths)} of {claim.subject} would run",
        claim.span,
        label=f"selects {some(paths)}",
        notes=notes_by_evidence(paths, evidence),
        helps=("`surgery verify` runs the real model and checks every adapter",),
    )


def _idle(graph: Graph, claims: Sequence[Claim], paths: Sequence[str]) -> Diagnostic:
    return Diagnostic(
        "W0906",
        f"no gradient would reach {counted(len(paths), 'adapter')} while the model is as it was built",
        claims[0].span,
        label=f"selects {some(paths)}",
        notes=notes_by_evidence(paths, lambda path: graph.holder(path).gradient.evidence),
        helps=("load trained weights before training, or train the module that stops it",),
    )
