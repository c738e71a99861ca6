"""The values of params: their defaults, and what the command line or a caller gives instead."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from surgery.diagnostics import Diagnostic, Diagnostics, SurgeryError
from surgery.language import tree
from surgery.language.nearest import did_you_mean, listed
from surgery.language.values import LARGEST, Evaluator, spelled
from surgery.language.walking import walk

PARAM_TYPES: dict[str, type] = {"int": int, "float": float, "bool": bool, "str": str}
_WORDS: dict[str, Any] = {"true": True, "false": False, "none": None}


def parse_override(text: str) -> tuple[str, Any]:
    """`rank=32` of the command line as name and value: a number, `true`, `false`, else a string.

    Double quotes make a string of what would be a number. Raises SurgeryError (E0109) where there is no `=`.
    """
    name, equals, value = (part.strip() for part in text.partition("="))
    if not equals or not name.isidentifier():
        raise SurgeryError(
            Diagnostic("E0109", f"`{text}` sets no param", place=f"--set {text}", helps=("write --set rank=32",))
        )
    if len(value) > 1 and value[0] == value[-1] == '"':
        return name, value[1:-1]
    return name, _WORDS[value] if value in _WORDS else _as_number(value)


def _as_number(text: str) -> int | float | str:
    """The number that a text is, else the text."""
    is_number = re.fullmatch(r"[+-]?\d+(\.\d+)?([eE][+-]?\d+)?", text, re.ASCII)
    if not is_number or len(text) > 300:
        return text
    return float(text) if set(text) & set(".eE") else int(text)


def param_values(spec: tree.Spec, overrides: Mapping[str, Any], folder: Path, found: Diagnostics) -> dict[str, Any]:
    """The value of every param. Adds E0109, E0105, E0108 and E0103 to `found`; a wrong param gets a stand-in value."""
    params = {param.name.name: param for param in spec.params}
    for name in overrides:
        if name not in params:
            otherwise = f"the params are {listed(params)}" if params else "the spec has no `param` statement"
            found.add(
                Diagnostic(
                    "E0109",
                    f"the spec has no param `{name}` to override",
                    place=spec.span.source.name,
                    helps=did_you_mean(name, params, otherwise),
                )
            )
    values: dict[str, Any] = {}
    for param in _in_order(params, found):
        values[param.name.name] = _value(param, overrides, values, folder, found)
    return {name: values[name] for name in params}


def _in_order(params: Mapping[str, tree.Param], found: Diagnostics) -> list[tree.Param]:
    """Params after those that their defaults use; E0108 where they use each other in a circle."""
    waiting = {
        name: {n.name for n in walk(param.default) if isinstance(n, tree.Name) and n.name in params}
        for name, param in params.items()
    }
    ordered: list[tree.Param] = []
    while waiting:
        ready = [name for name, uses in waiting.items() if not uses & waiting.keys()]
        if not ready:
            found.add(
                Diagnostic(
                    "E0108",
                    f"the defaults of {listed(waiting)} depend on each other",
                    params[next(iter(waiting))].name.span,
                    helps=("give one of them a value of its own",),
                )
            )
            ready = list(waiting)
        for name in ready:
            del waiting[name]
            ordered.append(params[name])
    return ordered


def _value(
    param: tree.Param, overrides: Mapping[str, Any], values: Mapping[str, Any], folder: Path, found: Diagnostics
) -> Any:
    type = param.type.name
    if type not in PARAM_TYPES:
        helps = did_you_mean(type, PARAM_TYPES, f"the types are {listed(PARAM_TYPES)}")
        found.add(Diagnostic("E0103", f"there is no param type `{type}`", param.type.span, helps=helps))
        return 1
    stand_in = PARAM_TYPES[type](1)
    if param.name.name in overrides:
        return _typed(param, overrides[param.name.name], found, "is overridden by", stand_in)
    if all(name.name in values for name in walk(param.default) if isinstance(name, tree.Name)):
        try:
            value = Evaluator(values, folder)(param.default)
        except SurgeryError as error:
            found.extend(error.diagnostics)
            return stand_in
        return _typed(param, value, found, "has the default", stand_in)
    return stand_in  # a name in it is unknown, or part of a circle: reported elsewhere


def _typed(param: tree.Param, value: Any, found: Diagnostics, how: str, stand_in: Any) -> Any:
    type = param.type.name
    fits = isinstance(value, PARAM_TYPES[type]) or (type == "float" and isinstance(value, int))
    if isinstance(value, bool) and type != "bool":
        fits = False
    if fits and isinstance(value, (int, float)) and not (math.isfinite(value) and -LARGEST <= value <= LARGEST):
        fits = False
    if fits:
        return PARAM_TYPES[type](value)
    is_default = how == "has the default"
    found.add(
        Diagnostic(
            "E0105",
            f"param `{param.name.name}` is of type {type}, and {how} {spelled(value)}",
            param.default.span if is_default else param.name.span,
            helps=(f"give it a value of type {type}" + (", or change its type" if is_default else ""),),
        )
    )
    return stand_in
