"""Why a module is in a set: the facts that put it there, with the place in the model's code."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping

from surgery.graph import Module
from surgery.language import tree
from surgery.planning.grouping import group_paths

_MOST_NOTES = 8
_BLOCK_NUMBER = re.compile(r"(?<=\.)\d+(?=[.`])")


def evidence_in(node: tree.Set, module: Module, lets: Mapping[str, tree.Set]) -> str:
    """The roles and facts that `node` asks for and `module` has, and how the model's code initialised it.

    Empty where a selector goes by path or class alone: then the path or class is all there is to say.
    """
    parts = list(dict.fromkeys([*_asked_for(node, module, lets), *initial(module)]))
    return "; ".join(parts)


def initial(module: Module) -> list[str]:
    """`weight starts as zero (dit.py:297)`, for parameters that do not start at random; biases aside."""
    telling = [p for p in module.parameters if not p.is_bias and p.init.value in ("zero", "loaded")]
    return [f"{p.name} starts as {p.init.value}" + (f" ({p.init.place})" if p.init.place else "") for p in telling]


def _asked_for(node: tree.Set, module: Module, lets: Mapping[str, tree.Set]) -> Iterable[str]:
    waiting, seen = [node], set()
    while waiting:
        match node := waiting.pop():
            case tree.Roles():
                for word in node.words:
                    if word.name in module.roles:
                        yield f"{word.name}: {module.roles[word.name]}"
            case tree.Inits():
                for parameter in module.parameters:
                    if not parameter.is_bias and any(word.name == parameter.init.value for word in node.words):
                        place = f" ({parameter.init.place})" if parameter.init.place else ""
                        yield f"{parameter.name} starts as {parameter.init.value}{place}"
            case tree.FactSet():
                yield from _of_fact(node.fact, module)
            case tree.Combined():
                waiting += [node.left] if node.operator == "-" else [node.right, node.left]
            case tree.LetName() if node.name not in seen:
                seen.add(node.name)
                waiting.append(lets[node.name])
            case tree.Indexed():
                waiting.append(node.of)


def _of_fact(fact: str, module: Module) -> Iterable[str]:
    if fact == "tied" and module.tied:
        yield f"shares storage with {', '.join(module.tied)}"
    elif fact == "bypassed" and module.bypassed.answer == "yes":
        yield f"bypassed: {module.bypassed.evidence}"
    elif fact == "unreached" and module.unreached.answer == "yes":
        yield f"unreached: {module.unreached.evidence}"


def by_evidence(paths: Iterable[str], evidence: Callable[[str], str]) -> list[tuple[str, list[str]]]:
    """Modules grouped by what speaks for them, with the evidence of each group's first one.

    Evidence that differs in nothing but the number of a block is one: every block would repeat it.
    """
    groups: dict[str, tuple[str, list[str]]] = {}
    for path in paths:
        text = evidence(path)
        groups.setdefault(_BLOCK_NUMBER.sub("*", text), (text, []))[1].append(path)
    return list(groups.values())


def notes_by_evidence(paths: Iterable[str], evidence: Callable[[str], str]) -> tuple[str, ...]:
    """One note for each sort of evidence, with all modules it speaks of."""
    notes = []
    for text, group in by_evidence(paths, evidence):
        modules = ", ".join(str(found) for found in group_paths(group))
        notes.append(f"{modules}: {text}" if text else modules)
    return tuple(notes[:_MOST_NOTES])
