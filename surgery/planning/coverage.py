"""How much of what has a role the plan adapts, or trains: half of a mixture's experts left out would show here."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

from surgery.graph import ROLES, Graph, Module, Parameter
from surgery.planning.plan import RoleShare, Site


def role_shares(graph: Graph, sites: Sequence[Site], trained: Collection[str]) -> Iterator[RoleShare]:
    """The roles that the plan touches, in the order of `ROLES`. Storage that modules share counts once."""
    adapted = {site.full_path for site in sites}
    whole = frozenset(trained)
    total: dict[str, dict[int, int]] = {}
    touched: dict[str, dict[int, int]] = {}
    for path, module in graph.modules.items():
        is_touched = path in whole or path in adapted
        for role in module.roles:
            for parameter in _with_role(module, role):
                total.setdefault(role, {})[parameter.storage] = parameter.numel
                if is_touched or f"{path}.{parameter.name}" in adapted:
                    touched.setdefault(role, {})[parameter.storage] = parameter.numel
    for role in ROLES:
        if role in touched:
            yield RoleShare(role=role, parameters=sum(total[role].values()), touched=sum(touched[role].values()))


def _with_role(module: Module, role: str) -> Iterator[Parameter]:
    """The parameters of a module that have one of its roles; biases do not count."""
    names = module.role_parameters.get(role)
    for parameter in module.parameters:
        if not parameter.is_bias and (names is None or parameter.name in names):
            yield parameter
