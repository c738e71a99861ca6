"""Which modules a call reaches, which it goes around, and which share storage."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from surgery.facts.flow import Flow
from surgery.graph import NO, Fact, Module, is_inside


def reads_of(flow: Flow, *, buffers: bool) -> dict[str, list[int]]:
    """The ops that read a parameter of a module, or one tied to it, by the module's path; with or without buffers."""
    reads: dict[str, list[int]] = {}
    for node in flow.nodes:
        if node.op == "parameter" and (buffers or flow.is_parameter(node)):
            for owner in flow.holders(node.target):
                reads.setdefault(owner, []).extend(flow.users[node.index])
    return reads


def unreached(
    modules: Mapping[str, Module], reads: Mapping[str, list[int]], switches: Mapping[str, str]
) -> dict[str, Fact]:
    """Modules that were not called, with nothing in them called or read.

    It is unknown where a sibling ran (an expert), and where an argument or the training mode decides (`switches`).
    """
    reached = {""}
    for path, module in modules.items():
        if module.calls or path in reads:
            while path not in reached:
                reached.add(path)
                path = path.rpartition(".")[0]
    siblings = _siblings(modules)
    found = {}
    for path in modules:
        if path in reached:
            continue
        sibling = _sibling_that_ran(path, modules, siblings, reached)
        if why := _switch(path, modules, switches):
            found[path] = Fact("unknown", why)
        elif sibling:
            found[path] = Fact("unknown", f"the example call did not come here, while its sibling `{sibling}` ran")
        elif found.get(parent := path.rpartition(".")[0], NO).answer == "unknown":
            found[path] = found[parent]
        else:
            found[path] = Fact("yes", "the example call neither ran it nor read a parameter of it")
    return found


def _siblings(modules: Mapping[str, Module]) -> dict[str, list[str]]:
    """The children of every list, dict and other holder of modules that are told apart by a number or a key."""
    found: dict[str, list[str]] = {}
    for path in modules:
        parent, _, name = path.rpartition(".")
        if path and (name.isdecimal() or "ModuleDict" in modules[parent].bases):
            found.setdefault(parent, []).append(path)
    return found


def _switch(path: str, modules: Mapping[str, Module], switches: Mapping[str, str]) -> str | None:
    """What decides whether a module is called, or one that it lies in and that was not called either."""
    while path and not modules[path].calls:
        if path in switches:
            return switches[path]
        path = path.rpartition(".")[0]
    return None


def _sibling_that_ran(
    path: str, modules: Mapping[str, Module], siblings: Mapping[str, list[str]], reached: Collection[str]
) -> str | None:
    """A sibling of the same class that was reached: then `path` may be an expert, or a task that was not asked for."""
    parent = path.rpartition(".")[0]
    for sibling in siblings.get(parent, ()):
        if sibling != path and sibling in reached and modules[sibling].kind == modules[path].kind:
            return sibling
    return None


def bypassed(modules: Mapping[str, Module], flow: Flow, reads: Mapping[str, str]) -> dict[str, Fact]:
    """Modules whose parameters an op outside their own forward reads, so that an adapter would be skipped.

    It is unknown where only a path that this run did not take does so (`reads`).
    """
    found = {path: Fact("unknown", why) for path, why in reads.items()}
    for node in flow.nodes:
        if node.op != "parameter":
            continue
        owner, _, name = node.target.rpartition(".")
        if owner not in modules or not modules[owner].parameter(name):
            continue  # a buffer, such as the position ids that a parent looks up, is nothing an adapter changes
        holders = flow.holders(node.target)
        # A tied module that is called itself is not gone around, though its weight is read elsewhere too.
        around = [h for h in holders if not modules[h].calls]
        outside = around or holders
        for user in map(flow.nodes.__getitem__, flow.users[node.index]):
            if not flow.users[user.index]:
                continue  # a shape or a dtype was asked of it
            inside = any(user.module == h or is_inside(user.module, h) for h in holders)
            for path in around if inside else outside:
                if user.op != "output" and found.get(path, NO).answer != "yes":
                    where = flow.named(user.module)
                    found[path] = Fact("yes", f"`{name}` is read by {user.op} in the forward of {where}; {user.place}")
    return found


def tied(modules: Mapping[str, Module], flow: Flow) -> dict[str, tuple[str, ...]]:
    """The other paths that share a parameter's storage with a module, or are the same module."""
    found = {path: list(module.tied) for path, module in modules.items() if module.tied}
    for paths in flow.holders_by_storage.values():
        for path in paths if len(paths) > 1 else ():
            found.setdefault(path, []).extend(other for other in paths if other != path)
    return {path: tuple(dict.fromkeys(others)) for path, others in found.items()}
