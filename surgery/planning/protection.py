"""`never`: what each protection covers, and that no claim touches it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from surgery.diagnostics import Diagnostic, Label
from surgery.graph import Graph, Module, is_inside
from surgery.language import tree
from surgery.planning.claims import Claim
from surgery.planning.counts import check_expect
from surgery.planning.evidence import by_evidence, evidence_in
from surgery.planning.plan import Protection
from surgery.planning.select import Selector
from surgery.planning.selection import Selection
from surgery.planning.words import quantity, selector_text, shown, some

_MOST_NAMED = 64


@dataclass(frozen=True)
class Guard:
    """A resolved `never`: what it covers, what it may cover, and the evidence for each that it covers.

    `held` are parameters that it covers because of the modules that hold them.
    """

    never: tree.Never
    covers: tuple[str, ...]
    maybe: Mapping[str, str]
    evidence: Mapping[str, str]
    held: frozenset[str] = frozenset()

    @property
    def selector(self) -> str:
        return selector_text(self.never.value)

    def protection(self) -> Protection:
        return Protection(
            selector=self.selector,
            because=self.never.because.value if self.never.because else "",
            place=self.never.span.place,
            covers=list(self.covers),
            evidence=dict(self.evidence),
        )


def resolve_guard(selector: Selector, never: tree.Never) -> Guard:
    """What a `never` covers. W0905 if that is nothing, E0203 if it is not what its `expect` says.

    A module without parameters of its own, named by path or class as in `never path("encoder")`, stands for what is
    inside it: taken by the letter the protection would protect nothing.
    """
    chosen = selector(never.value)
    lets = {let.name.name: let.value for let in selector.spec.tree.lets}
    if _is_by_name(never.value, lets):
        hollow = [path for path in chosen.members if not selector.graph[path].parameters]
        chosen |= selector.with_held(Selection(selector.tree.inside(hollow)))
    covers = selector.ordered(chosen.members)
    if not chosen.possible and never.expect is None and not selector.is_reported(never.value):
        selector.found.add(_idle(never))
    if never.expect:
        check_expect(selector, never.expect, covers, f"protection `{selector_text(never.value)}`", [never.value])
    graph = selector.graph
    evidence = {path: text for path in covers if (text := evidence_in(never.value, _described(graph, path), lets))}
    return Guard(never, covers, chosen.maybe, evidence, chosen.yes & chosen.implied)


def _described(graph: Graph, path: str) -> Module:
    """The module at a path, or, of a parameter, the one that holds it with this parameter alone."""
    parameter = graph.parameter(path)
    return replace(graph.holder(path), parameters=(parameter,)) if parameter else graph[path]


def _is_by_name(node: tree.Set, lets: Mapping[str, tree.Set]) -> bool:
    """Whether a set is nothing but paths or classes. Where facts or `-` shape it, it is meant by the letter."""
    while isinstance(node, tree.LetName):
        node = lets[node.name]
    return isinstance(node, (tree.Paths, tree.Kinds))


def _idle(never: tree.Never) -> Diagnostic:
    return Diagnostic(
        "W0905",
        f"protection `{selector_text(never.value)}` covers nothing in this model",
        never.value.span,
        helps=("remove it if this model has no such modules, or say so with `expect 0`",),
    )


def check_protection(selector: Selector, guards: Iterable[Guard], claims: Iterable[Claim]) -> None:
    """No claim touches what a guard covers (E0301, E0307), nor, without an `assume`, what it may cover (E0304)."""
    claims, graph = list(claims), selector.graph
    storages = _Storages(graph, selector.parameters)
    for guard in guards:
        covers = guard.held.union(guard.covers)
        around = selector.tree.containing(guard.covers)
        holders = {graph.holder(path).path for path in guard.covers if path not in graph}
        held = {storage for path in covers for storage in storages(path, guard.held)}
        for claim in claims:
            outside = around if isinstance(claim.statement, tree.Target) else holders
            direct = [path for path in claim.paths if path in covers]
            outer = [path for path in claim.paths if path in outside and path not in covers]
            rest = [path for path in claim.paths if path not in covers and not held.isdisjoint(storages(path))]
            rest = [path for path in rest if path not in outer]
            doubtful = [path for path in claim.paths if path in guard.maybe]
            if direct:
                selector.found.add(_touched(graph, guard, claim, direct))
            if outer:
                selector.found.add(_contained(graph, guard, claim, outer))
            if rest:
                selector.found.add(_shared(graph, guard, claim, rest))
            if doubtful:
                selector.found.add(_unknown(graph, guard, claim, doubtful))


class _Storages:
    """The storages of a module's parameters, or of a parameter, by path."""

    def __init__(self, graph: Graph, parameters: frozenset[str]) -> None:
        self._of_modules = {
            path: frozenset(p.storage for p in module.parameters) for path, module in graph.modules.items()
        }
        self._of_parameters = {path: p.storage for path in parameters if (p := graph.parameter(path))}
        self._apart: dict[str, dict[str, int]] = {}
        for path, storage in self._of_parameters.items():
            self._apart.setdefault(graph.holder(path).path, {})[path] = storage

    def __call__(self, path: str, held: frozenset[str] | None = None) -> frozenset[int]:
        """With `held`, a module's parameters that the spec speaks of by themselves count only if they are in it."""
        if path in self._of_parameters:
            return frozenset([self._of_parameters[path]])
        own = self._of_modules[path]
        if held is None or path not in self._apart:
            return own
        return own - {storage for parameter, storage in self._apart[path].items() if parameter not in held}


def _diagnostic(
    code: str,
    message: str,
    guard: Guard,
    claim: Claim,
    paths: Sequence[str],
    notes: tuple[str, ...],
    except_: str,
) -> Diagnostic:
    because = f": {guard.never.because.value}" if guard.never.because else ""
    return Diagnostic(
        code,
        message,
        claim.span,
        label=f"selects {some(paths)}",
        labels=(Label(guard.never.value.span, f"protected here{because if not _shows_because(guard) else ''}"),),
        notes=notes,
        helps=(f"take {'it' if len(paths) == 1 else 'them'} out with `except {except_}`",),
    )


def _shows_because(guard: Guard) -> bool:
    """Whether the reason stands on the line that the excerpt shows anyway."""
    because = guard.never.because
    return because is not None and because.span.line == guard.never.value.span.line


def _touched(graph: Graph, guard: Guard, claim: Claim, paths: Sequence[str]) -> Diagnostic:
    message = f"{claim.subject} {claim.verb} {quantity(graph, paths, 'protected ')}"
    notes = _evidence_notes(graph, guard, paths)
    return _diagnostic("E0301", message, guard, claim, paths, notes, guard.selector)


def _evidence_notes(graph: Graph, guard: Guard, paths: Sequence[str]) -> tuple[str, ...]:
    """One note per evidence, with what it speaks of."""
    notes = [
        (f"{evidence}\n" if evidence else "") + f"{quantity(graph, group)}: {', '.join(map(shown, group))}"
        for evidence, group in by_evidence(paths[:_MOST_NAMED], lambda path: guard.evidence.get(path, ""))
    ]
    if len(paths) > _MOST_NAMED:
        notes.append(f"and {len(paths) - _MOST_NAMED:,} more")
    return tuple(notes)


def _contained(graph: Graph, guard: Guard, claim: Claim, paths: Sequence[str]) -> Diagnostic:
    inside = {path: [inner for inner in guard.covers if is_inside(inner, path)] for path in paths[:8]}
    what = "modules" if all(inner in graph for found in inside.values() for inner in found) else "parameters"
    message = f"{claim.subject} {claim.verb} {quantity(graph, paths)} with protected {what} inside"
    notes = tuple(f"{shown(path)} contains {some(found)}" for path, found in inside.items())
    return _diagnostic("E0301", message, guard, claim, paths, notes, f"containing({guard.selector})")


def _shared(graph: Graph, guard: Guard, claim: Claim, paths: Sequence[str]) -> Diagnostic:
    message = f"{claim.subject} {claim.verb} {quantity(graph, paths)} sharing storage with protected ones"
    covers = {graph.holder(path).path for path in guard.held.union(guard.covers)}

    def sharing(path: str) -> str:
        return ", ".join(other for other in graph.holder(path).tied if other in covers) or "a protected module"

    notes = tuple(f"{path} shares storage with {sharing(path)}" for path in paths[:8])
    first = f'{"path" if paths[0] in graph else "param"}("{paths[0]}")'
    return _diagnostic("E0307", message, guard, claim, paths, notes, first)


def _unknown(graph: Graph, guard: Guard, claim: Claim, paths: Sequence[str]) -> Diagnostic:
    return Diagnostic(
        "E0304",
        f"it is not known whether `never {guard.selector}` protects {quantity(graph, paths)}"
        f" that {claim.subject} {claim.verb}",
        claim.span,
        label=f"selects {some(paths)}",
        labels=(Label(guard.never.value.span, "the protection needs a fact that is unknown"),),
        notes=tuple(dict.fromkeys(f"{path}: {guard.maybe[path]}" for path in paths[:8])),
        helps=(
            f'vouch for the fact with `assume {_fact_text(guard)} = path("...")`, naming the modules it is true of',
            "or capture the graph from the spec's `model`, which sees how each parameter is made",
        ),
    )


def _fact_text(guard: Guard) -> str:
    """The fact to vouch for: the whole selector where it is one fact, else a fitting example."""
    node = guard.never.value
    return guard.selector if isinstance(node, (tree.Inits, tree.Roles, tree.FactSet)) else "init(zero)"
