"""Block families: the repeated layers of a model."""

from __future__ import annotations

from collections.abc import Mapping

from surgery.graph import Block, Module


def blocks_of(modules: Mapping[str, Module]) -> dict[str, Block]:
    """The outermost repeated family that each module lies in, and the index of its block there.

    A family is two or more numbered children of one module that have the same class and children of their
    own: `transformer_blocks.0`, `transformer_blocks.1`, ... make `transformer_blocks.*`.
    """
    roots = _block_roots(modules)
    found: dict[str, Block] = {}
    for path in modules:
        parent = path.rpartition(".")[0]
        if parent in found:
            found[path] = found[parent]
        elif path in roots:
            found[path] = roots[path]
    return found


def _block_roots(modules: Mapping[str, Module]) -> dict[str, Block]:
    families: dict[tuple[str, str], list[str]] = {}
    with_children = {path.rpartition(".")[0] for path in modules if path}
    for path, module in modules.items():
        parent, _, name = path.rpartition(".")
        if path in with_children and name.isdecimal():
            families.setdefault((parent, module.kind), []).append(path)
    roots = {}
    for (parent, _), members in families.items():
        if len(members) > 1:
            for path in members:
                family = f"{parent}.*" if parent else "*"
                roots[path] = Block(family, int(path.rpartition(".")[2]))
    return roots
