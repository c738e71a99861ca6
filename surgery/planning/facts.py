"""Sets that a single fact of a module decides, or of a parameter: class, role, initial values, storage, reach."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from surgery.graph import NO, Fact, Graph, Module, Parameter
from surgery.planning.selection import Selection


def of_kind(graph: Graph, name: str) -> Selection:
    """Modules of a class of this name, or of a class derived from one. Names are taken without their package."""
    return Selection(frozenset(path for path, module in graph.modules.items() if name in kinds(module)))


def kinds(module: Module) -> set[str]:
    """The names of a module's class and of its base classes, without their packages."""
    return {name.rpartition(".")[2] for name in (module.kind, *module.bases)}


def with_role(graph: Graph, role: str) -> Selection:
    """Modules that have the role; in doubt are those for which it could not be decided."""
    modules = graph.modules.values()
    yes = frozenset(module.path for module in modules if role in module.roles)
    unknown = {m.path: f"role {role}: {m.unknown_roles[role]}" for m in modules if role in m.unknown_roles}
    return Selection(yes, {path: why for path, why in unknown.items() if path not in yes})


def with_init(graph: Graph, value: str) -> Selection:
    """Modules whose every parameter but the biases starts as `value`; a module without such a parameter is not one.

    A zero bias alone says nothing: nearly every linear layer and every norm has one.
    """
    yes: set[str] = set()
    maybe: dict[str, str] = {}
    for path, module in graph.modules.items():
        values = {p.name: p.init.value for p in module.parameters if not p.is_bias}
        if not values or any(found not in (value, "unknown") for found in values.values()):
            continue
        unknown = [name for name, found in values.items() if found == "unknown"]
        if unknown:
            maybe[path] = f"init {value}: it is not known how {' and '.join(unknown)} started"
        else:
            yes.add(path)
    return Selection(frozenset(yes), maybe)


def with_fact(graph: Graph, fact: str) -> Selection:
    """`tied`, `bypassed`, `unreached` or `all`."""
    if fact == "all":
        return Selection(frozenset(graph))
    if fact == "tied":
        return Selection(frozenset(path for path, module in graph.modules.items() if module.tied))
    get: Callable[[Module], Fact] = (lambda m: m.bypassed) if fact == "bypassed" else (lambda m: m.unreached)
    answers = {path: get(module) for path, module in graph.modules.items()}
    yes = frozenset(path for path, answer in answers.items() if answer.answer == "yes")
    return Selection(yes, {p: f"{fact}: {a.evidence}" for p, a in answers.items() if a.answer == "unknown"})


def of_parameters(graph: Graph, paths: Iterable[str], fact: tuple[str, str], modules: Selection) -> Selection:
    """Those of these parameters that a fact is true of, by their full paths; all are implied.

    A role, initial values and tied storage are a parameter's own, for everything else it is as the module that
    holds it: one of `modules`, or not.
    """
    yes, maybe = set(), {}
    for path in paths:
        holder = graph.holder(path)
        parameter = holder.parameter(path.rpartition(".")[2])
        assert parameter is not None
        sort, word = fact
        if sort == "role":
            answer = _has_role(holder, parameter, word)
        elif sort == "init":
            answer = _starts_as(parameter, word)
        elif sort == "tied":
            answer = Fact("yes" if shares_storage(graph, holder, parameter) else "no")
        else:
            answer = as_held(modules, holder.path)
        if answer.answer == "yes":
            yes.add(path)
        elif answer.answer == "unknown":
            maybe[path] = answer.evidence
    return Selection(frozenset(yes), maybe, frozenset(yes | maybe.keys()))


def as_held(modules: Selection, holder: str) -> Fact:
    """Whether a module is in a set, as a fact."""
    if holder in modules.yes:
        return Fact("yes")
    return Fact("unknown", modules.maybe[holder]) if holder in modules.maybe else NO


def roles_of(holder: Module, parameter: Parameter) -> dict[str, str]:
    """The roles that one parameter of a module is known to have, with the evidence."""
    return {role: why for role, why in holder.roles.items() if _has_role(holder, parameter, role).answer == "yes"}


def _has_role(holder: Module, parameter: Parameter, role: str) -> Fact:
    if role in holder.unknown_roles:
        return Fact("unknown", f"role {role}: {holder.unknown_roles[role]}")
    if role not in holder.roles:
        return NO
    if role in holder.role_parameters:
        return Fact("yes" if parameter.name in holder.role_parameters[role] else "no")
    if len(holder.weights) > 1:
        return Fact("unknown", f"role {role}: it is not known which parameters of {holder.path} have it")
    return Fact("yes")


def _starts_as(parameter: Parameter, value: str) -> Fact:
    if parameter.init.value == "unknown":
        return Fact("unknown", f"init {value}: it is not known how {parameter.name} started")
    return Fact("yes" if parameter.init.value == value else "no")


def shares_storage(graph: Graph, holder: Module, parameter: Parameter) -> bool:
    """Whether a parameter is tied to another, or its module stands at a second place (no module of the graph)."""
    at_two_places = any(path not in graph for path in holder.tied)
    return at_two_places or graph.holders_of_storage[parameter.storage] > 1


def in_blocks(graph: Graph, members: Iterable[str], slices: Iterable[slice]) -> frozenset[str]:
    """The members whose block index the slices take. Each family of blocks is sliced by itself."""
    found = {path: block for path in members if (block := graph.holder(path).block)}
    sizes = family_sizes(graph, {block.family for block in found.values()})
    chosen = {(family, index) for part in slices for family, size in sizes.items() for index in range(size)[part]}
    return frozenset(path for path, block in found.items() if (block.family, block.index) in chosen)


def family_sizes(graph: Graph, families: Iterable[str]) -> dict[str, int]:
    """How many blocks each of these families has."""
    sizes = dict.fromkeys(families, 0)
    for module in graph.modules.values():
        if module.block and module.block.family in sizes:
            sizes[module.block.family] = max(sizes[module.block.family], module.block.index + 1)
    return sizes
