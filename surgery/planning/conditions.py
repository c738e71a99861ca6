"""`where(...)`: conditions on one module's own numbers."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from surgery.graph import Module
from surgery.language import tree
from surgery.language.spec import LoadedSpec

COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


def numbers(module: Module) -> dict[str, int]:
    """What `where` can ask of a module: the count of its own parameters, `out_features` and the like."""
    return {**module.numbers, "parameters": sum(parameter.numel for parameter in module.parameters)}


def holds(spec: LoadedSpec, condition: tree.Expression, own: Mapping[str, int]) -> bool:
    """Whether a condition is true of what has these numbers.

    A comparison with a number that it lacks is neither true nor false, and so is its `not`.
    """
    return _holds(spec, condition, own) is True


def _holds(spec: LoadedSpec, node: tree.Expression, own: Mapping[str, int]) -> bool | None:
    match node:
        case tree.Logic():
            decisive = node.operator == "or"
            answers = {_holds(spec, node.left, own), _holds(spec, node.right, own)}
            if decisive in answers:
                return decisive
            return None if None in answers else not decisive
        case tree.Not():
            answer = _holds(spec, node.operand, own)
            return None if answer is None else not answer
        case _:
            if any(name in tree.WHERE_FIELDS and name not in own for name in _names(node)):
                return None
            return bool(spec.evaluate(node, names=own))


def _names(node: tree.Expression) -> Iterator[str]:
    match node:
        case tree.Name():
            yield node.name
        case tree.Comparison() | tree.Arithmetic():
            yield from _names(node.left)
            yield from _names(node.right)
        case tree.Negative():
            yield from _names(node.operand)
