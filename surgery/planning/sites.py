"""From settled claims to sites: what the method adds to each module, and the PEFT adapter the site belongs to."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from surgery.diagnostics import Diagnostic, Diagnostics, SurgeryError
from surgery.graph import Graph, Module
from surgery.language import tree
from surgery.language.method_use import unknown_method
from surgery.language.spec import LoadedSpec
from surgery.methods import METHODS, Method, resolve
from surgery.planning.claims import Claim
from surgery.planning.plan import Adapter, Site
from surgery.planning.words import counted, some


def build_sites(
    spec: LoadedSpec, graph: Graph, claims: Iterable[Claim], found: Diagnostics
) -> tuple[list[Site], list[Adapter]]:
    """The sites of all claims in the order of the model, and the named adapters they fall into.

    Emits what is wrong with a method's settings (E0401 to E0405), modules that a method refuses (E0404),
    and the method's advice (W0902, W0903). A target whose method has errors gets no sites.
    """
    sites: list[Site] = []
    groups = _AdapterGroups()
    for claim in claims:
        assert isinstance(claim.statement, tree.Target)
        resolved = resolve_method(spec, claim.statement.method, found)
        if resolved and claim.modules:
            method, settings = resolved
            adapter = groups.name_for(method, settings, claim.name)
            sites += _sites_of(graph, claim, method, settings, adapter, found)
    order = {path: at for at, path in enumerate(graph)}
    sites.sort(key=lambda site: order[site.path])
    return groups.finish(sites)


def resolve_method(spec: LoadedSpec, node: tree.Method, found: Diagnostics) -> tuple[Method, dict[str, Any]] | None:
    """The method that a target names and its full settings, or None if there is an error in them."""
    method = METHODS.get(node.name.name)
    if method is None:
        found.add(unknown_method(node.name, METHODS))
        return None
    try:
        given = {s.name.name: (spec.evaluate(s.value), s.span) for s in node.settings}
    except SurgeryError as error:
        found.extend(error.diagnostics)
        return None
    settings, problems = resolve(method, given, node.span)
    found.extend(problems)
    return None if any(problem.is_error for problem in problems) else (method, settings)


def _sites_of(
    graph: Graph, claim: Claim, method: Method, settings: Mapping[str, Any], adapter: str, found: Diagnostics
) -> list[Site]:
    refused: dict[str, list[str]] = {}
    advised: dict[tuple[str, str], list[str]] = {}
    sites = []
    for path in claim.modules:
        module = graph[path]
        if reason := method.refusal(module, settings):
            refused.setdefault(reason, []).append(path)
            continue
        for advice in method.advice(module, settings):
            advised.setdefault(advice, []).append(path)
        sites.append(_site(claim, module, method, settings, adapter))
    for reason, paths in refused.items():
        found.add(_refusal(graph, claim, method, reason, paths))
    for (code, text), paths in advised.items():
        found.add(_advice(claim, code, text, paths))
    return sites


def _site(claim: Claim, module: Module, method: Method, settings: Mapping[str, Any], adapter: str) -> Site:
    return Site(
        path=module.path,
        kind=module.kind,
        shape=list(module.weight.shape) if module.weight else [],
        target=claim.name,
        place=claim.statement.span.place,
        method=method.name,
        settings=dict(settings),
        scale=method.scale(module, settings),
        added=method.added(module, settings),
        adapter=adapter,
        roles=dict(module.roles),
    )


def _refusal(graph: Graph, claim: Claim, method: Method, reason: str, paths: Sequence[str]) -> Diagnostic:
    kinds = ", ".join(sorted({graph[path].kind for path in paths}))
    return Diagnostic(
        "E0404",
        f"{method.name} cannot adapt {counted(len(paths), 'module')} of {claim.subject}: {reason}",
        claim.span,
        label=f"selects {some(paths)}",
        notes=(f"of class {kinds}",),
        helps=("narrow the target, for instance with `& kind(Linear)`, or take them out with `except`",),
    )


def _advice(claim: Claim, code: str, text: str, paths: Sequence[str]) -> Diagnostic:
    assert isinstance(claim.statement, tree.Target)
    return Diagnostic(
        code,
        f"{claim.subject}: {text}",
        claim.statement.method.span,
        notes=(f"{counted(len(paths), 'module')}: {some(paths)}",),
        helps=(f"`surgery explain {code}` says why it matters",),
    )


class _AdapterGroups:
    """Named PEFT adapters: one for each method and set of settings that a PEFT adapter has only once."""

    def __init__(self) -> None:
        self._groups: dict[str, tuple[str, dict[str, Any]]] = {}

    def name_for(self, method: Method, settings: Mapping[str, Any], target: str) -> str:
        """The name of the group these settings fall into: that of its first target."""
        group = (method.name, method.per_adapter(settings))
        return next((name for name, known in self._groups.items() if known == group), None) or self._add(target, group)

    def _add(self, target: str, group: tuple[str, dict[str, Any]]) -> str:
        self._groups[target] = group
        return target

    def finish(self, sites: Sequence[Site]) -> tuple[list[Site], list[Adapter]]:
        """The sites and the adapters that have any. A single adapter is called `default`, as PEFT does."""
        used = [name for name in self._groups if any(site.adapter == name for site in sites)]
        names = {name: name for name in used} if len(used) > 1 else dict.fromkeys(used, "default")
        renamed = [site.model_copy(update={"adapter": names[site.adapter]}) for site in sites]
        adapters = [self._adapter(name, names[name], renamed) for name in used]
        return renamed, adapters

    def _adapter(self, group: str, name: str, sites: Iterable[Site]) -> Adapter:
        method, settings = self._groups[group]
        own = [site for site in sites if site.adapter == name]
        return Adapter(name=name, method=method, settings=settings, sites=len(own), added=sum(s.added for s in own))
