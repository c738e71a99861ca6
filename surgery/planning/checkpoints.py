"""`checkpoint`: the modules whose activations are recomputed in the backward pass."""

from __future__ import annotations

from collections.abc import Sequence

from surgery.diagnostics import Diagnostic, SurgeryError
from surgery.language import tree
from surgery.planning.claims import in_doubt, nothing_chosen
from surgery.planning.select import Selector
from surgery.planning.words import counted, shown, some


def checkpointed(selector: Selector) -> tuple[str, ...]:
    """Every Nth module of each `checkpoint` set, from the first.

    Emits E0201 for a set that is empty, E0205 for one that is not known, E0306 for modules that are never called.
    """
    chosen: set[str] = set()
    for checkpoint in selector.spec.tree.checkpoints:
        modules = _members(selector, checkpoint.value)
        every = next((s for s in checkpoint.settings if s.name.name == "every"), None)
        try:
            step = int(selector.spec.evaluate(every.value)) if every else 1
        except SurgeryError as error:
            selector.found.extend(error.diagnostics)
            continue
        chosen.update(modules[:: max(step, 1)])
    return selector.ordered(chosen)


def _members(selector: Selector, node: tree.Set) -> tuple[str, ...]:
    chosen = selector(node, strict=True)
    members, doubtful = selector.ordered(chosen.members), chosen.doubtful
    modules = tuple(path for path in members if path in selector.graph)
    if doubtful:
        selector.found.add(in_doubt(selector.graph, "`checkpoint`", node.span, selector.ordered(doubtful), doubtful))
    elif len(modules) < len(members):
        selector.found.add(_no_modules(node, [path for path in members if path not in selector.graph]))
    elif not modules and not selector.is_reported(node):
        selector.found.add(nothing_chosen("`checkpoint`", node.span))
    # An expert that the example call did not route to may run in training.
    graph = selector.graph
    idle = [path for path in modules if not graph[path].calls and graph[path].unreached.answer != "unknown"]
    if idle:
        selector.found.add(_never_called(node, idle))
    return modules


def _no_modules(node: tree.Set, paths: Sequence[str]) -> Diagnostic:
    return Diagnostic(
        "E0306",
        f"`checkpoint` names {counted(len(paths), 'parameter')}, and only modules run",
        node.span,
        label=f"selects {some(paths)}",
        helps=("name the blocks whose activations are to be recomputed with `path(...)`",),
    )


def _never_called(node: tree.Set, paths: Sequence[str]) -> Diagnostic:
    return Diagnostic(
        "E0306",
        f"`checkpoint` names {counted(len(paths), 'module')} that {'is' if len(paths) == 1 else 'are'} never called",
        node.span,
        label=f"selects {some(paths)}",
        notes=(f"{shown(paths[0])} has no forward that runs: nothing of it would be recomputed",),
        helps=("name the blocks that are called, for instance those in a list of modules",),
    )
