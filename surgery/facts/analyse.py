"""All analyses in order: a graph as recorded becomes a graph with facts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import TypeAlias

from surgery.facts.attention import Attentions
from surgery.facts.blocks import blocks_of
from surgery.facts.ends import input_roles, output_roles
from surgery.facts.feedforward import branch_roles
from surgery.facts.flow import Flow
from surgery.facts.gradient import gradients, without_parameters
from surgery.facts.modulation import Modulation
from surgery.facts.norms import norm_roles
from surgery.facts.reach import bypassed, reads_of, tied, unreached
from surgery.facts.residual import Residuals
from surgery.facts.routing import router_roles
from surgery.graph import NO, ROLES, Fact, Graph

_UNDECIDED = Fact("unknown", "the call read no parameter of it")


def with_facts(
    graph: Graph, reads: Mapping[str, str] = MappingProxyType({}), switches: Mapping[str, str] = MappingProxyType({})
) -> Graph:
    """The same graph, every module with its facts and roles.

    `graph` holds modules with calls, parameters and init facts, and the nodes of one run. Of paths that the run did
    not take, `reads` says by module where one reads a parameter directly, `switches` what decides if one calls it.
    """
    blocks = blocks_of(graph.modules)
    graph = Graph(graph.header, {p: replace(m, block=blocks.get(p)) for p, m in graph.modules.items()}, graph.nodes)
    flow = Flow(graph)
    missed = unreached(graph.modules, reads_of(flow, buffers=True), switches)
    around = bypassed(graph.modules, flow, reads)
    shared = tied(graph.modules, flow)
    gradient = without_parameters(graph.modules, gradients(flow, reads_of(flow, buffers=False)))
    roles, role_parameters = roles_of(flow)
    modules = {
        path: replace(
            module,
            unreached=missed.get(path, NO),
            bypassed=around.get(path, NO),
            tied=shared.get(path, ()),
            gradient=gradient.get(path, _UNDECIDED),
            roles=roles.get(path, {}),
            unknown_roles=_not_decided(missed.get(path, NO)),
            role_parameters=role_parameters.get(path, {}),
        )
        for path, module in graph.modules.items()
    }
    return Graph(graph.header, modules, graph.nodes)


def _not_decided(unreached: Fact) -> dict[str, str]:
    """A module that another call might reach may have any role."""
    return dict.fromkeys(ROLES, unreached.evidence) if unreached.answer == "unknown" else {}


Roles: TypeAlias = "dict[str, dict[str, str]]"
RoleParameters: TypeAlias = "dict[str, dict[str, tuple[str, ...]]]"


def roles_of(flow: Flow) -> tuple[Roles, RoleParameters]:
    """Every module's roles with their evidence, the first found where a module is called several times.

    And, of modules that hold several weights, the names of those that have a role of a feed-forward branch.
    """
    residuals = Residuals(flow)
    modulation = Modulation(flow, residuals.all)
    found: dict[str, dict[str, str]] = {}

    def note(triples: Iterable[tuple[str, str, str]]) -> None:
        for path, role, evidence in triples:
            if path in flow.graph.modules:
                found.setdefault(path, {}).setdefault(role, evidence)

    def with_roles(*kinds: str) -> set[str]:
        return {path for path, roles in found.items() if any(role.startswith(kinds) for role in roles)}

    note(Attentions(flow, residuals.all).roles())
    branches = list(branch_roles(flow, residuals, modulation.gates))
    note((path, role, evidence) for path, role, evidence, _ in branches)
    attending, inner = with_roles("attention_"), with_roles("attention_", "feedforward_")
    note(modulation.roles())
    note(input_roles(flow, residuals.all, modulation.conditioning, inner, attending))
    note(output_roles(flow, residuals.all, inner))
    note(norm_roles(flow, residuals.all))
    note(router_roles(flow, with_roles("feedforward_out")))
    ordered = {path: {role: roles[role] for role in ROLES if role in roles} for path, roles in found.items()}
    return ordered, _role_parameters(flow, ((path, role, projection) for path, role, _, projection in branches))


def _role_parameters(flow: Flow, projections: Iterable[tuple[str, str, int]]) -> RoleParameters:
    names: dict[str, dict[str, set[str]]] = {}
    for path, role, projection in projections:
        if path in flow.graph.modules and len(flow.graph[path].weights) > 1:
            names.setdefault(path, {}).setdefault(role, set()).update(flow.parameters_of(projection))
    return {
        path: {
            role: tuple(p.name for p in flow.graph[path].weights if p.name in roles[role])
            for role in ROLES
            if role in roles
        }
        for path, roles in names.items()
    }
