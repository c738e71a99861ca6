"""The methods that targets name, checked against the registry of methods."""

from __future__ import annotations

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
            found.add(unknown_method(target.method.name))
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


def unknown_method(name: tree.Word) -> Diagnostic:
    """E0401, with the nearest method, or why PEFT's is not offered."""
    return Diagnostic("E0401", f"there is no method `{name.name}`", name.span, helps=ways_out(name.name))


def ways_out(name: str) -> tuple[str, ...]:
    """What to tell somebody who named a method that there is not."""
    from surgery.methods import METHODS, NOT_SUPPORTED, OTHER_NAMES

    if other := OTHER_NAMES.get(name.lower()):
        return (other,)
    if reason := NOT_SUPPORTED.get(name.upper()):
        return (f"PEFT has it, and it is not offered here: {reason}",)
    return did_you_mean(name, METHODS, f"the methods are {listed(METHODS)}; `surgery methods` describes them")
