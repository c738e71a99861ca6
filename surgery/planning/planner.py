"""Spec and graph to plan: resolve every selector, collect every claim, check them all, and only then count."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from surgery.collector import paused_collector
from surgery.diagnostics import Diagnostic, Diagnostics, SurgeryError
from surgery.graph import Graph
from surgery.language import tree
from surgery.language.spec import LoadedSpec
from surgery.planning.budgets import check_budgets, count_totals
from surgery.planning.checkpoints import checkpointed
from surgery.planning.claims import Claim, claim_of_target, claim_of_train, is_on
from surgery.planning.conflicts import check_tied, check_trained, settle
from surgery.planning.counts import check_expect
from surgery.planning.coverage import role_shares
from surgery.planning.plan import (
    Adapter,
    Assumption,
    Exclusion,
    Finding,
    Fingerprints,
    Limit,
    Plan,
    Protection,
    RoleShare,
    Site,
    SwitchedOff,
)
from surgery.planning.protection import Guard, check_protection, resolve_guard
from surgery.planning.reach import check_gradient, check_reach, check_trains_run
from surgery.planning.select import Selector, fact_keys
from surgery.planning.signature import check_model
from surgery.planning.sites import build_sites


@dataclass(frozen=True)
class Claims:
    """Who wants what: targets with at most one on a module, `train`s, and targets whose `when` is false."""

    targets: Sequence[Claim]
    trains: Sequence[Claim]
    off: Sequence[tree.Target]


@dataclass(frozen=True)
class Planned:
    """A plan, and the diagnostics in it with their places in the source still at hand."""

    plan: Plan
    diagnostics: tuple[Diagnostic, ...]


@paused_collector()
def plan(spec: LoadedSpec, graph: Graph) -> Plan:
    """What `spec` does to the model of `graph`.

    Never raises for what is wrong with the spec on this graph: that is in `diagnostics`, and the plan is then
    not `applyable`.
    """
    return make_plan(spec, graph).plan


def make_plan(spec: LoadedSpec, graph: Graph) -> Planned:
    """As `plan`, with the diagnostics as objects, ready to render."""
    found = Diagnostics(spec.diagnostics)
    try:
        if mismatch := check_model(spec, graph.header):
            found.add(mismatch)
            return _planned(spec, graph, found, _Parts())
    except SurgeryError as error:
        found.extend(error.diagnostics)
        return _planned(spec, graph, found, _Parts())
    return _planned(spec, graph, found, _resolve(spec, graph, found))


@dataclass
class _Parts:
    """What the passes worked out; empty where the graph is of another model."""

    sites: Sequence[Site] = ()
    adapters: Sequence[Adapter] = ()
    never: Sequence[Protection] = ()
    excluded: Sequence[Exclusion] = ()
    assumed: Sequence[Assumption] = ()
    switched_off: Sequence[SwitchedOff] = ()
    trained: Sequence[str] = ()
    checkpointed: Sequence[str] = ()
    budget: Sequence[Limit] = ()
    roles: Sequence[RoleShare] = ()


def _resolve(spec: LoadedSpec, graph: Graph, found: Diagnostics) -> _Parts:
    selector = Selector(spec, graph, found)
    _check_lets(selector)
    guards = [resolve_guard(selector, never) for never in spec.tree.nevers]
    claims = _collect(selector)
    _check(selector, guards, claims)
    _lint(spec, claims, found)
    sites, adapters = build_sites(spec, graph, claims.targets, found)
    touched = {path for claim in claims.trains for path in claim.paths if graph[path].parameters}
    trained = selector.ordered(touched)
    check_gradient(graph, claims.targets, found)
    return _Parts(
        sites=sites,
        adapters=adapters,
        never=[guard.protection() for guard in guards],
        excluded=[taken for claim in claims.targets for taken in claim.excluded],
        assumed=[_assumption(selector, assume) for assume in spec.tree.assumes],
        switched_off=[_switched_off(target) for target in claims.off],
        trained=trained,
        checkpointed=checkpointed(selector),
        roles=list(role_shares(graph, sites, trained)),
        budget=check_budgets(spec, count_totals(graph, sites, adapters, trained), sites, found),
    )


def _check_lets(selector: Selector) -> None:
    """Every `let` is resolved, used or not, so that a typo in it shows and its `expect` is held."""
    for let in selector.spec.tree.lets:
        paths = selector.ordered(selector(let.value).members)
        if let.expect:
            check_expect(selector, let.expect, paths, f"set `{let.name.name}`", [let.value])


def _collect(selector: Selector) -> Claims:
    spec = selector.spec.tree
    for exclude in spec.excludes:
        paths = selector.ordered(selector(exclude.value).members)
        if exclude.expect:
            check_expect(selector, exclude.expect, paths, "`exclude`", [exclude.value])
    is_on_ = {id(target): _holds(selector, target) for target in spec.targets}
    on = [target for target in spec.targets if is_on_[id(target)]]
    return Claims(
        targets=settle(
            selector.graph, [claim_of_target(selector, target, spec.excludes) for target in on], selector.found
        ),
        trains=[claim_of_train(selector, train) for train in spec.trains if _holds(selector, train)],
        off=[target for target in spec.targets if not is_on_[id(target)]],
    )


def _holds(selector: Selector, statement: tree.Target | tree.Train) -> bool:
    try:
        return is_on(selector, statement)
    except SurgeryError as error:
        selector.found.extend(error.diagnostics)
        return False


def _check(selector: Selector, guards: Sequence[Guard], claims: Claims) -> None:
    everything = [*claims.targets, *claims.trains]
    check_protection(selector, guards, everything)
    check_trained(selector.graph, claims.targets, claims.trains, selector.tree, selector.found)
    check_tied(selector.graph, everything, selector.found)
    check_reach(selector.graph, claims.targets, selector.found)
    check_trains_run(selector.graph, claims.trains, selector.found)


def _lint(spec: LoadedSpec, claims: Claims, found: Diagnostics) -> None:
    """W0901 for targets that nothing counts, W0907 if no target is on."""
    has_lock = spec.lock_path.exists()
    for claim in claims.targets:
        if claim.paths and claim.statement.expect is None and not has_lock:
            found.add(
                Diagnostic(
                    "W0901",
                    f"{claim.subject} has no `expect`, and no lock counts its modules yet",
                    claim.span,
                    label=f"selects {len(claim.paths):,} today",
                    helps=(f"add `expect {len(claim.paths)}`, or accept the plan with `surgery lock`",),
                )
            )
    if claims.off and not claims.targets:
        conditions = tuple(f"target `{t.name.name}` when {t.when.span.text}" for t in claims.off if t.when)
        found.add(
            Diagnostic(
                "W0907",
                "every target is switched off",
                claims.off[0].span,
                notes=conditions,
                helps=("change the parameters, for instance with `--set`",),
            )
        )


def _assumption(selector: Selector, assume: tree.Assume) -> Assumption:
    covers = frozenset[str]().union(*(selector.vouched(key) for key in fact_keys(assume.fact)))
    return Assumption(
        fact=" ".join(assume.fact.span.text.split()),
        because=assume.because.value if assume.because else "",
        place=assume.span.place,
        covers=list(selector.ordered(covers & selector(assume.value).members)),
    )


def _switched_off(target: tree.Target) -> SwitchedOff:
    assert target.when is not None
    return SwitchedOff(target=target.name.name, when=" ".join(target.when.span.text.split()), place=target.span.place)


def _planned(spec: LoadedSpec, graph: Graph, found: Diagnostics, parts: _Parts) -> Planned:
    diagnostics = tuple(found)
    model = spec.tree.model.callee.name if spec.tree.model else graph.header.model
    values: dict[str, Any] = {name: list(v) if isinstance(v, (list, tuple)) else v for name, v in vars(parts).items()}
    result = Plan(
        applyable=not found.has_errors,
        spec=spec.path.name,
        model=model,
        params=dict(spec.params),
        totals=count_totals(graph, parts.sites, parts.adapters, parts.trained),
        fingerprints=Fingerprints(spec=spec.fingerprint, graph=graph.fingerprint, versions=dict(graph.header.versions)),
        diagnostics=[Finding.model_validate(diagnostic.to_json()) for diagnostic in diagnostics],
        **values,
    )
    return Planned(result, diagnostics)
