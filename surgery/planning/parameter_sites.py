"""What PEFT cannot do with the parameters of a plan, though it can adapt each of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from surgery.diagnostics import Diagnostic, Label
from surgery.graph import Graph, is_inside
from surgery.methods.parameters import taken_by, without_wrappers
from surgery.planning.claims import Claim
from surgery.planning.plan import Site
from surgery.planning.words import counted, some


def inexact_parameters(graph: Graph, claims: Iterable[Claim], sites: Sequence[Site]) -> Iterator[Diagnostic]:
    """E0406 and E0407 for sites on parameters; nothing where the plan has none."""
    adapted = [site for site in sites if site.parameter]
    if adapted:
        named = {claim.name: claim for claim in claims}
        yield from _several_adapters(named, adapted)
        yield from _taken_besides(graph, named, adapted)
        yield from _sites_inside(named, adapted, sites)


def _several_adapters(claims: Mapping[str, Claim], adapted: Sequence[Site]) -> Iterator[Diagnostic]:
    """All adapters with parameters would have to adapt the same ones (`LoraModel._check_new_adapter_config`)."""
    first = {site.adapter: site for site in reversed(adapted)}
    if len(first) > 1:
        one, other = list(first.values())[:2]
        yield Diagnostic(
            "E0407",
            f"PEFT puts single parameters into one adapter, and targets `{other.target}` and `{one.target}` need two",
            claims[one.target].span,
            labels=(Label(claims[other.target].span, "the other one"),),
            helps=(f"give `{one.target}` the settings of `{other.target}`; `r` and `alpha` may differ",),
        )


def _taken_besides(graph: Graph, claims: Mapping[str, Claim], adapted: Sequence[Site]) -> Iterator[Diagnostic]:
    """PEFT matches `target_parameters` by the ends of paths: other parameters may end in a planned one."""
    planned = {(site.path, site.parameter) for site in adapted}
    parameters = [(path, p.name) for path, module in graph.modules.items() for p in module.parameters]
    taken = set(taken_by((site.full_path for site in adapted), parameters))
    lost = {s.path for s in adapted if f"{s.path}.base_layer" in graph or without_wrappers(s.path) != s.path}
    if missed := [site for site in adapted if (site.path, site.parameter) not in taken or site.path in lost]:
        yield Diagnostic(
            "E0406",
            f"PEFT would not find {counted(len(missed), 'planned parameter')}",
            claims[missed[0].target].span,
            label=f"selects {some([site.full_path for site in missed])}",
            notes=("it takes a module called `base_layer` for what one of its own wrappers holds",),
            helps=("rename that module of the model",),
        )
    more = taken - planned
    if besides := [f"{path}.{name}" for path, name in parameters if (path, name) in more]:
        site = next((s for s in adapted if besides[0].endswith(f".{s.full_path}")), adapted[0])
        yield Diagnostic(
            "E0406",
            f"PEFT would also adapt {counted(len(besides), 'parameter')} that the plan does not: {some(besides)}",
            claims[site.target].span,
            label=f"selects {site.full_path}",
            notes=("it matches `target_parameters` by the ends of paths",),
            helps=("select these parameters too, with the same target, or rename the modules of the model",),
        )


def _sites_inside(claims: Mapping[str, Claim], adapted: Sequence[Site], sites: Sequence[Site]) -> Iterator[Diagnostic]:
    """PEFT wraps the module that holds a parameter, and the paths of what lies inside it change."""
    holders = {site.path: site for site in adapted}
    inside = [(site, holders[above]) for site in sites for above in _above(site.path) if above in holders]
    if inside:
        site, holder = inside[0]
        assert is_inside(site.path, holder.path)
        yield Diagnostic(
            "E0406",
            f"PEFT cannot adapt {counted(len(inside), 'site')} inside a module of which it adapts a parameter",
            claims[site.target].span,
            label=f"selects {site.full_path}",
            notes=(f"to adapt {holder.full_path} it wraps {holder.path}, and what is inside moves to another path",),
            helps=("take the parameter, or what lies inside its module, out with `except`",),
        )


def _above(path: str) -> Iterator[str]:
    while path:
        path = path.rpartition(".")[0]
        yield path
