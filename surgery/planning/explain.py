"""Why one module is targeted, excluded, protected or untouched."""

from __future__ import annotations

from collections.abc import Iterator

from surgery.diagnostics import Diagnostic, SurgeryError
from surgery.graph import Fact, Graph, Module, is_inside
from surgery.language.nearest import did_you_mean
from surgery.planning.plan import Plan
from surgery.planning.words import counted, settings_text, shown


def explain(plan: Plan, graph: Graph, path: str) -> str:
    """What the plan does to a module and why, then what the graph knows of it. Raises SurgeryError (E0204)."""
    if path not in graph:
        raise SurgeryError(_no_such(plan, graph, path))
    module = graph[path]
    untouched = "untouched: no target or train selects it, and no never covers it"
    fates = [*(list(_fates(plan, path)) or [untouched]), *_inside(plan, path)]
    facts = [f"  {line}" for line in _facts(module)]
    return "\n".join([f"{shown(path)}  {module.kind}", *(f"  {fate}" for fate in fates), "", *facts]) + "\n"


def _no_such(plan: Plan, graph: Graph, path: str) -> Diagnostic:
    known = [name for name in graph if name]
    start = path.rpartition(".")[0]
    inside = list(graph.children.get(start, ()))
    helps = did_you_mean(path, inside) or did_you_mean(path, known, "`surgery facts` lists all modules")
    return Diagnostic("E0204", f"the model has no module `{path}`", place=plan.spec, helps=helps)


def _fates(plan: Plan, path: str) -> Iterator[str]:
    for site in plan.sites:
        if site.path == path:
            yield f"targeted by {site.target} ({site.place}): {site.method} {settings_text(site.settings)}"
            yield f"  adds {site.added:,} parameters, scale {site.scale:g}, PEFT adapter {site.adapter}"
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


def _inside(plan: Plan, path: str) -> Iterator[str]:
    """What the plan does to the modules inside this one."""
    parts = {"targeted": [site.path for site in plan.sites], "trained in full": plan.trained}
    for word, paths in parts.items():
        inside = sum(is_inside(other, path) for other in paths)
        if inside:
            yield f"contains {counted(inside, 'module')} that {'is' if inside == 1 else 'are'} {word}"


def _facts(module: Module) -> Iterator[str]:
    for role, evidence in module.roles.items():
        yield f"role {role}: {evidence}"
    for role, why in module.unknown_roles.items():
        yield f"role {role} is unknown: {why}"
    for parameter in module.parameters:
        place = f" ({parameter.init.place})" if parameter.init.place else ""
        shape = "x".join(map(str, parameter.shape)) or "scalar"
        yield f"parameter {parameter.name}  {shape}  {parameter.dtype}  starts as {parameter.init.value}{place}"
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
