"""`never`: what each protection covers, and that no claim touches it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from surgery.diagnostics import Diagnostic, Label
from surgery.graph import Graph
from surgery.language import tree
from surgery.planning.claims import Claim
from surgery.planning.counts import check_expect
from surgery.planning.evidence import by_evidence, evidence_in
from surgery.planning.plan import Protection
from surgery.planning.select import Selector
from surgery.planning.words import counted, selector_text, shown, some

_MOST_NAMED = 64


@dataclass(frozen=True)
class Guard:
    """A resolved `never`: the modules it covers, those it may cover, and the evidence for each that it covers."""

    never: tree.Never
    covers: tuple[str, ...]
    maybe: Mapping[str, str]
    evidence: Mapping[str, str]

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
    yes, maybe = chosen.yes, dict(chosen.maybe)
    lets = {let.name.name: let.value for let in selector.spec.tree.lets}
    if _is_by_name(never.value, lets):
        yes |= selector.tree.inside(path for path in yes if not selector.graph[path].parameters)
        maybe = {path: why for path, why in maybe.items() if path not in yes}
    covers = selector.ordered(yes)
    if not chosen.possible and never.expect is None and not selector.is_reported(never.value):
        selector.found.add(_idle(never))
    if never.expect:
        check_expect(selector, never.expect, covers, f"protection `{selector_text(never.value)}`", [never.value])
    evidence = {path: text for path in covers if (text := evidence_in(never.value, selector.graph[path], lets))}
    return Guard(never, covers, maybe, evidence)


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
    claims = list(claims)
    storages = _storages(selector.graph)
    for guard in guards:
        covers = frozenset(guard.covers)
        around = selector.tree.containing(covers)
        held = {storage for path in covers for storage in storages[path]}
        for claim in claims:
            is_target = isinstance(claim.statement, tree.Target)
            direct = [path for path in claim.modules if path in covers]
            outer = [path for path in claim.modules if path in around and path not in covers] if is_target else []
            rest = [path for path in claim.modules if path not in covers and not held.isdisjoint(storages[path])]
            doubtful = [path for path in claim.modules if path in guard.maybe]
            if direct:
                selector.found.add(_touched(guard, claim, direct))
            if outer:
                selector.found.add(_contained(guard, claim, outer))
            if rest:
                selector.found.add(_shared(selector.graph, guard, claim, rest))
            if doubtful:
                selector.found.add(_unknown(guard, claim, doubtful))


def _storages(graph: Graph) -> dict[str, frozenset[int]]:
    return {path: frozenset(p.storage for p in module.parameters) for path, module in graph.modules.items()}


def _diagnostic(
    code: str, message: str, guard: Guard, claim: Claim, modules: Sequence[str], notes: tuple[str, ...]
) -> Diagnostic:
    because = f": {guard.never.because.value}" if guard.never.because else ""
    return Diagnostic(
        code,
        message,
        claim.span,
        label=f"selects {some(modules)}",
        labels=(Label(guard.never.value.span, f"protected here{because if not _shows_because(guard) else ''}"),),
        notes=notes,
        helps=(f"take {'it' if len(modules) == 1 else 'them'} out with `except {guard.selector}`",),
    )


def _shows_because(guard: Guard) -> bool:
    """Whether the reason stands on the line that the excerpt shows anyway."""
    because = guard.never.because
    return because is not None and because.span.line == guard.never.value.span.line


def _touched(guard: Guard, claim: Claim, modules: Sequence[str]) -> Diagnostic:
    message = f"{claim.subject} {claim.verb} {counted(len(modules), 'protected module')}"
    return _diagnostic("E0301", message, guard, claim, modules, _evidence_notes(guard, modules))


def _evidence_notes(guard: Guard, modules: Sequence[str]) -> tuple[str, ...]:
    """One note per evidence, with the modules it speaks of."""
    notes = [
        (f"{evidence}\n" if evidence else "") + f"{counted(len(paths), 'module')}: {', '.join(map(shown, paths))}"
        for evidence, paths in by_evidence(modules[:_MOST_NAMED], lambda path: guard.evidence.get(path, ""))
    ]
    if len(modules) > _MOST_NAMED:
        notes.append(f"and {len(modules) - _MOST_NAMED:,} more")
    return tuple(notes)


def _contained(guard: Guard, claim: Claim, modules: Sequence[str]) -> Diagnostic:
    message = f"{claim.subject} {claim.verb} {counted(len(modules), 'module')} with protected modules inside"
    notes = tuple(
        f"{shown(path)} contains {some([inner for inner in guard.covers if not path or inner.startswith(path + '.')])}"
        for path in modules[:8]
    )
    return _diagnostic("E0301", message, guard, claim, modules, notes)


def _shared(graph: Graph, guard: Guard, claim: Claim, modules: Sequence[str]) -> Diagnostic:
    message = f"{claim.subject} {claim.verb} {counted(len(modules), 'module')} sharing storage with protected ones"
    covers = frozenset(guard.covers)
    notes = tuple(
        f"{path} shares storage with {', '.join(t for t in graph[path].tied if t in covers) or 'a protected module'}"
        for path in modules[:8]
    )
    found = _diagnostic("E0307", message, guard, claim, modules, notes)
    first = modules[0]
    return Diagnostic(
        found.code,
        found.message,
        found.span,
        label=found.label,
        labels=found.labels,
        notes=found.notes,
        helps=(f'take it out with `except path("{first}")`',),
    )


def _unknown(guard: Guard, claim: Claim, modules: Sequence[str]) -> Diagnostic:
    return Diagnostic(
        "E0304",
        f"it is not known whether `never {guard.selector}` protects {counted(len(modules), 'module')}"
        f" that {claim.subject} {claim.verb}",
        claim.span,
        label=f"selects {some(modules)}",
        labels=(Label(guard.never.value.span, "the protection needs a fact that is unknown"),),
        notes=tuple(dict.fromkeys(f"{path}: {guard.maybe[path]}" for path in modules[:8])),
        helps=(
            f'vouch for the fact with `assume {_fact_text(guard)} = path("...")`, naming the modules it is true of',
            "or capture the graph from the spec's `model`, which sees how each parameter is made",
        ),
    )


def _fact_text(guard: Guard) -> str:
    """The fact to vouch for: the whole selector where it is one fact, else a fitting example."""
    node = guard.never.value
    return guard.selector if isinstance(node, (tree.Inits, tree.Roles, tree.FactSet)) else "init(zero)"
