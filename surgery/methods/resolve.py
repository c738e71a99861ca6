"""From the settings a spec gives to the full settings of a method."""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any

from surgery.diagnostics import Diagnostic, Label, Span
from surgery.methods.method import Method
from surgery.methods.setting import Setting, as_text


def resolve(
    method: Method, given: Mapping[str, tuple[Any, Span]], span: Span
) -> tuple[dict[str, Any], list[Diagnostic]]:
    """All settings of `method` under the user's names, defaults filled in, and what is wrong with `given`.

    `given` maps names (the user's or PEFT's) to values and the places of the settings; `span` is the place of
    the method. A setting with an error keeps its default. Codes: E0104, E0402, E0403, E0405.
    """
    resolved: dict[str, Any] = {setting.name: setting.default for setting in method.settings}
    places: dict[str, Span] = {}
    problems: list[Diagnostic] = []
    for name, (value, place) in given.items():
        setting = method.setting(name)
        if setting is None:
            problems.append(_unknown(method, name, place))
        elif setting.name in places:
            problems.append(_twice(setting, name, place, places[setting.name]))
        elif reason := method.unsupported_value(setting, value):
            problems.append(_unsupported(f"{name} = {as_text(value)}", reason, place, (f"use {setting.wanted}",)))
        elif not setting.accepts(value):
            problems.append(_wrong(method, setting, name, value, place))
        else:
            resolved[setting.name] = setting.normalise(value)
        if setting is not None:
            places.setdefault(setting.name, place)
    problems += [_missing(method, s, span) for s in method.settings if s.required and s.name not in places]
    if not problems and (reason := method.conflict(resolved)):
        problems.append(_together(method, reason, span))
    return resolved, problems


def _unknown(method: Method, name: str, place: Span) -> Diagnostic:
    if name in method.unsupported:
        return _unsupported(name, method.unsupported[name], place, ("take it out",))
    names = [setting.name for setting in method.settings]
    close = get_close_matches(name, [*names, *(setting.field for setting in method.settings)], n=1)
    help = f"did you mean `{close[0]}`? " if close else ""
    return Diagnostic(
        "E0402",
        f"{method.name} has no setting `{name}`",
        span=place,
        helps=(f"{help}{method.name} takes {', '.join(names) or 'no settings'}",),
    )


def _missing(method: Method, setting: Setting, place: Span) -> Diagnostic:
    return Diagnostic(
        "E0403",
        f"{method.name} needs `{setting.name}`: {setting.wanted}",
        span=place,
        notes=(f"{setting.name}: {setting.doc}",),
        helps=(f"write `{setting.name} = ...` among its settings; there is no default",),
    )


def _together(method: Method, reason: str, place: Span) -> Diagnostic:
    return Diagnostic(
        "E0403",
        f"these settings of {method.name} do not go together: {reason}",
        span=place,
        helps=(f"change one of them; `surgery methods {method.name}` says what each does",),
    )


def _unsupported(what: str, reason: str, place: Span, helps: tuple[str, ...]) -> Diagnostic:
    return Diagnostic("E0405", f"`{what}` is not supported: {reason}", span=place, helps=helps)


def _twice(setting: Setting, name: str, place: Span, first: Span) -> Diagnostic:
    return Diagnostic(
        "E0104",
        f"`{setting.name}` is set twice" + (f" (`{name}` is another name for it)" if name != setting.name else ""),
        span=place,
        labels=(Label(first, "set here first"),),
        helps=("keep one of the two",),
    )


def _wrong(method: Method, setting: Setting, name: str, value: object, place: Span) -> Diagnostic:
    return Diagnostic(
        "E0403",
        f"`{name}` of {method.name} must be {setting.wanted}, not {as_text(value)}",
        span=place,
        notes=(f"{setting.name}: {setting.doc}",),
        helps=(_instead(setting, value),),
    )


def _instead(setting: Setting, value: object) -> str:
    words = [choice for choice in setting.choices if isinstance(choice, str)]
    if isinstance(value, str) and (close := get_close_matches(value.lower(), words, n=1)):
        return f"did you mean `{setting.name} = {as_text(close[0])}`?"
    if setting.required:
        return f"write {setting.wanted}"
    return f"for instance `{setting.name} = {as_text(setting.default)}`, the default"
