"""From settled claims to sites: what the method adds to each module, and the PEFT adapter the site belongs to."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from surgery.diagnostics import Diagnostic, Diagnostics, SurgeryError
from surgery.graph import Graph, Module, Parameter
from surgery.language import tree
from surgery.language.method_use import unknown_method
from surgery.language.nearest import listed
from surgery.language.spec import LoadedSpec
from surgery.methods import METHODS, Method, resolve
from surgery.methods.geometry import layer_of, weight_shape
from surgery.methods.parameters import added_to_parameter, parameter_advice, parameter_refusal, settings_refusal
from surgery.methods.quantised import bits_of
from surgery.planning.claims import Claim
from surgery.planning.facts import roles_of
from surgery.planning.parameter_sites import inexact_parameters
from surgery.planning.plan import Adapter, Site
from surgery.planning.words import quantity, some, value_text

_IS_ROOT = "it is the whole model, and PEFT replaces modules inside of one"


def build_sites(
    spec: LoadedSpec, graph: Graph, claims: Iterable[Claim], found: Diagnostics
) -> tuple[list[Site], list[Adapter]]:
    """The sites of all claims in the order of the model, and the named adapters they fall into.

    Emits what is wrong with a method's settings (E0401 to E0405), modules that a method refuses (E0404),
    and the method's advice (W0902, W0903). A target whose method has errors gets no sites.
    """
    claims, resolved = list(claims), []
    for claim in claims:
        assert isinstance(claim.statement, tree.Target)
        how = resolve_method(spec, claim.statement.method, found)
        if how and claim.paths:
            resolved.append(_Resolved(claim, *how))
    sites: list[Site] = []
    adapters = []
    for name, members in _adapter_groups(resolved).items():
        own = [site for member in members for site in _sites_of(graph, member, name, found)]
        adapters.append(_adapter(graph, name, members[0], own))
        sites += own
    found.extend(_not_together(graph, resolved))
    found.extend(inexact_parameters(graph, claims, sites))
    order = {path: at for at, path in enumerate(graph)}
    return sorted(sites, key=lambda site: order[site.path]), adapters


@dataclass(frozen=True)
class _Resolved:
    """A claim with the method and all settings that its target names."""

    claim: Claim
    method: Method
    settings: Mapping[str, Any]


def resolve_method(spec: LoadedSpec, node: tree.Method, found: Diagnostics) -> tuple[Method, dict[str, Any]] | None:
    """The method that a target names and its full settings, or None if there is an error in them."""
    method = METHODS.get(node.name.name)
    if method is None:
        found.add(unknown_method(node.name))
        return None
    try:
        given = {s.name.name: (spec.evaluate(s.value), s.span) for s in node.settings}
    except SurgeryError as error:
        found.extend(error.diagnostics)
        return None
    settings, problems = resolve(method, given, node.span)
    found.extend(problems)
    return None if any(problem.is_error for problem in problems) else (method, settings)


def _sites_of(graph: Graph, resolved: _Resolved, adapter: str, found: Diagnostics) -> list[Site]:
    claim, method, settings = resolved.claim, resolved.method, resolved.settings
    refused: dict[str, list[str]] = {}
    advised: dict[tuple[str, str], list[str]] = {}
    sites = []
    for path in claim.paths:
        module, parameter = graph.holder(path), graph.parameter(path)
        reason = _refused(graph, module, parameter, method, settings)
        if reason:
            refused.setdefault(reason, []).append(path)
            continue
        for advice in parameter_advice(settings) if parameter else method.advice(module, settings):
            advised.setdefault(advice, []).append(path)
        sites.append(_site(resolved, module, parameter, adapter))
    for reason, paths in refused.items():
        found.add(_refusal(graph, resolved, reason, paths))
    for (code, text), paths in advised.items():
        found.add(_advice(graph, claim, code, text, paths))
    return sites


def _refused(
    graph: Graph, module: Module, parameter: Parameter | None, method: Method, settings: Mapping[str, Any]
) -> str | None:
    if parameter:
        return parameter_refusal(graph, module, parameter, method, settings)
    if method.copies and graph.children.get(module.path):
        return f"it holds other modules, and {method.title} would copy them too"
    return method.refusal(module, settings) if module.path else _IS_ROOT


def _site(resolved: _Resolved, module: Module, parameter: Parameter | None, adapter: str) -> Site:
    claim, method, settings = resolved.claim, resolved.method, resolved.settings
    return Site(
        path=module.path,
        parameter=parameter.name if parameter else "",
        kind=module.kind,
        shape=list(parameter.shape if parameter else weight_shape(module)),
        target=claim.name,
        place=claim.statement.span.place,
        method=method.name,
        settings=dict(settings),
        scale=method.scale(module, settings),
        added=added_to_parameter(parameter, settings) if parameter else method.added(module, settings),
        frozen=0 if parameter else method.frozen(module, settings),
        adapter=adapter,
        roles=dict(roles_of(module, parameter) if parameter else module.roles),
    )


def _refusal(graph: Graph, resolved: _Resolved, reason: str, paths: Sequence[str]) -> Diagnostic:
    kinds = ", ".join(sorted({graph.holder(path).kind for path in paths}))
    claim = resolved.claim
    return Diagnostic(
        "E0404",
        f"{resolved.method.name} cannot adapt {quantity(graph, paths)} of {claim.subject}: {reason}",
        claim.span,
        label=f"selects {some(paths)}",
        notes=(f"of class {kinds}",),
        helps=(_way_out(graph, resolved, reason, paths),),
    )


def _way_out(graph: Graph, resolved: _Resolved, reason: str, paths: Sequence[str]) -> str:
    """What helps against a refusal: other modules where the method never adapts such, other settings where it does."""
    method = resolved.method
    if reason == _IS_ROOT:
        return "select modules inside of it, or let `model` name a module that holds it"
    if any(path not in graph for path in paths):
        if method.name != "lora":
            return "adapt them with `lora`, take them out with `except`, or adapt the module that holds them"
        if reason == settings_refusal(method, resolved.settings):
            return "leave that setting as it is by default, or adapt the module that holds them"
        return "take them out with `except`, or adapt the module that holds them"
    if all(layer_of(graph[path]) and not graph[path].weight for path in paths):
        return "fold what computes the weight into it before (torch's remove_parametrizations, remove_weight_norm)"
    if all(layer_of(graph[path]) in method.layers for path in paths):
        return "change the method or its settings, or take these modules out with `except`"
    own = [f"{path}.{p.name}" for path in paths for p in graph[path].parameters if len(p.shape) in (2, 3)]
    if method.name == "lora" and own:
        return f'adapt its parameters as such, as in `param("{own[0]}")`, or take these modules out with `except`'
    like = "role(norm)" if method.layers == ("norms",) else f"kind({method.layers[0]})"
    return f"narrow the target, for instance with `& {like}`, or take them out with `except`"


def _advice(graph: Graph, claim: Claim, code: str, text: str, paths: Sequence[str]) -> Diagnostic:
    assert isinstance(claim.statement, tree.Target)
    return Diagnostic(
        code,
        f"{claim.subject}: {text}",
        claim.statement.method.span,
        notes=(f"{quantity(graph, paths)}: {some(paths)}",),
        helps=(f"`surgery explain {code}` says why it matters",),
    )


def _adapter_groups(resolved: Sequence[_Resolved]) -> dict[str, list[_Resolved]]:
    """The claims that one PEFT adapter can hold, by its name.

    Those with the same method and the same settings but for rank and alpha share one. It has the name of its first
    target; where there is a single one it is called `default`, as PEFT does.
    """
    groups: list[list[_Resolved]] = []
    for one in resolved:
        own = (one.method.name, one.method.per_adapter(one.settings))
        group = next((g for g in groups if (g[0].method.name, g[0].method.per_adapter(g[0].settings)) == own), None)
        if group is None:
            groups.append([one])
        else:
            group.append(one)
    return {"default": groups[0]} if len(groups) == 1 else {group[0].claim.name: group for group in groups}


def _adapter(graph: Graph, name: str, first: _Resolved, sites: Sequence[Site]) -> Adapter:
    return Adapter(
        name=name,
        method=first.method.name,
        settings=first.method.per_adapter(first.settings),
        sites=len(sites),
        added=sum(site.added for site in sites),
        shared=first.method.shared([graph[site.path] for site in sites], first.settings) if sites else 0,
    )


def _not_together(graph: Graph, resolved: Sequence[_Resolved]) -> Iterator[Diagnostic]:
    """E0407: methods, or two adapters of one method, that PEFT cannot hold in one model."""
    methods = {member.method.name: member for member in resolved}
    alone = [member for member in methods.values() if not member.method.mixes]
    if len(methods) > 1 and alone:
        one = alone[0]
        others = listed(name for name in methods if name != one.method.name)
        together = listed(method.name for method in METHODS.values() if method.mixes)
        yield _separate(
            f"PEFT cannot put {one.method.name} into one model with {others}",
            one,
            f"use one method for all targets; only {together} go together",
        )
    if len(methods) > 1 and any(bits_of((module.kind, *module.bases)) for module in graph.modules.values()):
        yield _separate(
            f"PEFT does not mix methods ({listed(methods)}) in a model with quantised layers",
            resolved[-1],
            "use one method for all targets",
        )
    groups = _adapter_groups(resolved)
    for method in methods.values():
        names = [name for name, members in groups.items() if members[0].method is method.method]
        if len(names) > 1 and not method.method.several:
            yield _separate(
                f"one model can carry one {method.method.name} adapter in PEFT, and these targets need {len(names)}",
                groups[names[1]][0],
                f"give `{names[1]}` the settings of `{names[0]}`: {_differences(*(groups[n][0] for n in names[:2]))}",
            )


def _differences(one: _Resolved, other: _Resolved) -> str:
    """`dropout` is 0 there and 0.1 here: what keeps two targets from sharing an adapter."""
    ours, theirs = (resolved.method.per_adapter(resolved.settings) for resolved in (other, one))
    return ", ".join(
        f"`{name}` is {value_text(theirs[name])} there and {value_text(value)} here"
        for name, value in ours.items()
        if value != theirs[name]
    )


def _separate(message: str, at: _Resolved, help: str) -> Diagnostic:
    assert isinstance(at.claim.statement, tree.Target)
    return Diagnostic("E0407", message, at.claim.statement.method.span, helps=(help,))
