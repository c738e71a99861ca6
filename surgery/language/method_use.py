"""The methods that targets name, checked against the registry of methods."""

from __future__ import annotations

from collections.abc import Iterable

from surgery.diagnostics import Diagnostic, Diagnostics, SurgeryError
from surgery.language import tree
from surgery.language.nearest import did_you_mean, listed
from surgery.language.spec import LoadedSpec


def check_methods(spec: LoadedSpec) -> Diagnostics:
    """E0401 for unknown methods; E0402, E0403 and E0405 for their settings; E0105 where a value cannot be evaluated."""
    from surgery.methods import METHODS, resolve

    found = Diagnostics()
    for target in spec.tree.targets:
        method = METHODS.get(target.method.name.name)
        if method is None:
            found.add(unknown_method(target.method.name, METHODS))
            continue
        try:
            given = {
                setting.name.name: (spec.evaluate(setting.value), setting.span) for setting in target.method.settings
            }
        except SurgeryError as error:
            found.extend(error.diagnostics)
            continue
        found.extend(resolve(method, given, target.method.span)[1])
    return found


def unknown_method(name: tree.Word, known: Iterable[str]) -> Diagnostic:
    """E0401, with the nearest method."""
    methods = list(known)
    helps = did_you_mean(name.name, methods, f"the methods are {listed(methods)}")
    return Diagnostic("E0401", f"there is no method `{name.name}`", name.span, helps=helps)
