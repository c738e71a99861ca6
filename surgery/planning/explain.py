"""Why one module or parameter is targeted, excluded, protected or untouched."""

from __future__ import annotations

from collections.abc import Iterator

from surgery.diagnostics import Diagnostic, SurgeryError
from surgery.graph import Fact, Graph, Module, Parameter, is_inside
from surgery.language.nearest import did_you_mean
from surgery.planning.facts import roles_of
from surgery.planning.plan import Plan
from surgery.planning.words import counted, method_text, quantity, scale_text, shown


def explain(plan: Plan, graph: Graph, path: str) -> str:
    """What the plan does to a module or a parameter and why, then what the graph knows of it.

    `path` is that of the module, or that of the module and the parameter's name in it. Raises SurgeryError (E0204).
    """
    parameter = graph.parameter(path)
    if path not in graph and parameter is None:
        raise SurgeryError(_no_such(plan, graph, path))
    module = graph.holder(path)
    kind = f"parameter of {module.path or 'the model itself'} ({module.kind})" if parameter else module.kind
    fates = [*_fates(plan, path), *(_through_module(plan, module) if parameter else ())]
    fates = fates or ["untouched: no target or train selects it, and no never covers it"]
    if not parameter:
        fates += _inside(plan, graph, path)
    facts = [f"  {line}" for line in (_parameter_facts(module, parameter) if parameter else _facts(module))]
    return "\n".join([f"{shown(path)}  {kind}", *(f"  {fate}" for fate in fates), "", *facts]) + "\n"


def _through_module(plan: Plan, module: Module) -> Iterator[str]:
    """What the plan does to a parameter by what it does to the module that holds it."""
    fates = list(_fates(plan, module.path))
    if fates:
        yield f"its module {shown(module.path)} is"
        yield from (f"  {fate}" for fate in fates)


def _parameter_facts(module: Module, parameter: Parameter) -> Iterator[str]:
    for role, evidence in roles_of(module, parameter).items():
        yield f"role {role}: {evidence}"
    yield _described(parameter)
    yield from _run(module)


def _no_such(plan: Plan, graph: Graph, path: str) -> Diagnostic:
    known = [name for name in graph if name]
    start = path.rpartition(".")[0]
    inside = list(graph.children.get(start, ()))
    if start in graph:
        inside += [f"{start}.{parameter.name}".removeprefix(".") for parameter in graph[start].parameters]
    helps = did_you_mean(path, inside) or did_you_mean(path, known, "`surgery facts` lists all modules")
    return Diagnostic("E0204", f"the model has no module or parameter `{path}`", place=plan.spec, helps=helps)


def _fates(plan: Plan, path: str) -> Iterator[str]:
    for site in plan.sites:
        if site.full_path == path:
            yield f"targeted by {site.target} ({site.place}): {method_text(site.method, site.settings)}"
            scale = scale_text(site.method, site.scale, ",")
            yield f"  adds {site.added:,} parameters,{scale} PEFT adapter {site.adapter}"
    for taken in plan.excluded:
        if taken.path == path:
            because = f", because {taken.because}" if taken.because else ""
            yield f"excluded from {taken.target} by {taken.selector} ({taken.place}){because}"
    for guard in plan.never:
        if path in guard.covers:
            because = f", because {guard.because}" if guard.because else ""
            yield f"protected by never {guard.selector} ({guard.place}){because}"
            if path in guard.evidence:
                yield f"  {guard.evidence[path]}"
    for assumed in plan.assumed:
        if path in assumed.covers:
            yield f"assumed {assumed.fact} ({assumed.place})"
    if path in plan.trained:
        yield "trained in full"
    if path in plan.checkpointed:
        yield "checkpointed: its activations are recomputed in the backward pass"


def _inside(plan: Plan, graph: Graph, path: str) -> Iterator[str]:
    """What the plan does to the modules and parameters inside this one."""
    parts = {"targeted": [site.full_path for site in plan.sites], "trained in full": plan.trained}
    for word, paths in parts.items():
        inside = [other for other in paths if is_inside(other, path)]
        if inside:
            yield f"contains {quantity(graph, inside)} that {'is' if len(inside) == 1 else 'are'} {word}"


def _facts(module: Module) -> Iterator[str]:
    for role, evidence in module.roles.items():
        yield f"role {role}: {evidence}"
    for role, why in module.unknown_roles.items():
        yield f"role {role} is unknown: {why}"
    yield from map(_described, module.parameters)
    yield from _run(module)


def _described(parameter: Parameter) -> str:
    place = f" ({parameter.init.place})" if parameter.init.place else ""
    shape = "x".join(map(str, parameter.shape)) or "scalar"
    return f"parameter {parameter.name}  {shape}  {parameter.dtype}  starts as {parameter.init.value}{place}"


def _run(module: Module) -> Iterator[str]:
    """Where a module stands, and how it runs."""
    if module.block:
        yield f"block {module.block.index} of {module.block.family}"
    yield f"called {counted(module.calls, 'time')} in the example call"
    for name, fact in (("unreached", module.unreached), ("bypassed", module.bypassed), ("gradient", module.gradient)):
        yield from _fact(name, fact)
    if module.tied:
        yield f"shares storage with {', '.join(map(shown, module.tied))}"


def _fact(name: str, fact: Fact) -> Iterator[str]:
    if fact.answer != "no" or name == "gradient":
        yield f"{name}: {fact.answer}" + (f", {fact.evidence}" if fact.evidence else "")
