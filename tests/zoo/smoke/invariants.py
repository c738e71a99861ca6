"""What holds of every graph, whatever the model."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from surgery.graph import ROLES, Graph, Module
from surgery.graph.file import read_graph

# The answers of each fact that say something of the module, and so need evidence; the other is the usual one.
TELLING = {"unreached": ("yes", "unknown"), "bypassed": ("yes", "unknown"), "gradient": ("no",)}


def broken(graph: Graph) -> list[str]:
    """A line for everything in the graph that contradicts itself."""
    found = [line for module in graph.modules.values() for line in (*_facts(module), *_roles(module))]
    return [*found, *_bypassed(graph)]


def _facts(module: Module) -> Iterator[str]:
    for name, telling in TELLING.items():
        fact = getattr(module, name)
        if fact.answer not in ("yes", "no", "unknown"):
            yield f"{module.path}: {name} is {fact.answer!r}"
        if fact.answer in telling and not fact.evidence:
            yield f"{module.path}: {name} is {fact.answer} without evidence"
    if module.unreached.answer == "yes" and module.calls:
        yield f"{module.path}: unreached, though called {module.calls} times"


def _roles(module: Module) -> Iterator[str]:
    for role, evidence in {**module.roles, **module.unknown_roles}.items():
        if role not in ROLES:
            yield f"{module.path}: there is no role {role}"
        if not evidence:
            yield f"{module.path}: {role} without evidence"
        if role in module.roles and module.unreached.answer == "yes":
            yield f"{module.path}: {role}, though unreached"


def _bypassed(graph: Graph) -> Iterator[str]:
    """A module is bypassed by an op that reads a parameter of it, or of one that shares its storage."""
    read = {node.target for node in graph.nodes if node.op == "parameter"}
    for path, module in graph.modules.items():
        if module.bypassed.answer == "yes":
            holders = (path, *module.tied)
            if not any(f"{holder}.{p.name}".lstrip(".") in read for holder in holders for p in module.parameters):
                yield f"{path}: bypassed, though no op reads a parameter of it"


def survives_a_file(graph: Graph, folder: Path) -> bool:
    """Whether the graph that is read back from a file has the same fingerprint, and so has what was read."""
    file = folder / "model.graph.json"
    graph.save(file)
    read = read_graph(file)
    written = read.fingerprint
    del read.__dict__["fingerprint"]  # what the file says; now from the modules and ops that were read
    return graph.fingerprint == written == read.fingerprint
