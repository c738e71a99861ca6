"""`catalogue.json` is what the installed PEFT says of its methods, and the registry covers all of them."""

from __future__ import annotations

import dataclasses
import json
import typing
from importlib.metadata import version

import pytest
from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING, PEFT_TYPE_TO_PREFIX_MAPPING, PEFT_TYPE_TO_TUNER_MAPPING
from peft.tuners.mixed.model import COMPATIBLE_TUNER_TYPES
from peft.tuners.tuners_utils import BaseTuner
from peft.utils import PeftType

from surgery.methods import METHODS, NOT_SUPPORTED
from surgery.methods.catalogue import CATALOGUE, FILE


def injecting() -> list[PeftType]:
    """The methods that put layers into a model; those that only lengthen its input have no tuner."""
    tuners = PEFT_TYPE_TO_TUNER_MAPPING
    return sorted(name for name, tuner in tuners.items() if issubclass(tuner, BaseTuner))


def described(peft_type: PeftType) -> dict:
    config = PEFT_TYPE_TO_CONFIG_MAPPING[peft_type]
    hints = typing.get_type_hints(config)
    return {
        "config": config.__name__,
        "prefix": PEFT_TYPE_TO_PREFIX_MAPPING[peft_type],
        "mixes": peft_type in COMPATIBLE_TUNER_TYPES,
        "fields": {
            field.name: {
                "default": None if field.default is dataclasses.MISSING else plain(field.default),
                "optional": type(None) in typing.get_args(hints[field.name]),
            }
            for field in dataclasses.fields(config)
        },
    }


def plain(value):
    return value.value if hasattr(value, "value") else value


def test_the_catalogue_is_what_peft_says(golden):
    methods = {peft_type.value: described(peft_type) for peft_type in injecting()}
    golden(json.dumps({"peft": version("peft"), "methods": methods}, indent=1, sort_keys=True) + "\n", str(FILE))


def test_every_injecting_method_is_there_or_says_why_not():
    assert {method.peft_type for method in METHODS.values()} | set(NOT_SUPPORTED) == set(CATALOGUE)
    assert not {method.peft_type for method in METHODS.values()} & set(NOT_SUPPORTED)


@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
def test_every_field_of_the_configuration_is_a_setting_or_says_why_not(method):
    settings = {setting.field for setting in method.settings if setting.field}
    assert settings | set(method.unsupported) == set(CATALOGUE[method.peft_type].fields)
    assert not settings & set(method.unsupported)
    assert {setting.name for setting in method.settings}.isdisjoint(method.unsupported)


@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
def test_settings_have_the_types_of_the_configuration(method):
    hints = typing.get_type_hints(PEFT_TYPE_TO_CONFIG_MAPPING[PeftType(method.peft_type)])
    for setting in method.settings:
        if not setting.field:
            assert (setting.type, setting.default) == ("bool", False), setting
            continue
        hint = hints[setting.field]
        members = {hint} if typing.get_origin(hint) is list else set(typing.get_args(hint)) or {hint}
        members = nested_hint(setting, members) or members
        assert setting.optional <= (type(None) in members), setting
        assert setting.accepts(setting.default) or (setting.required and setting.default is None), setting
        if setting.type == "choice":
            check_choices(method, setting, members)
        else:
            # PEFT annotates alpha as int and divides by it, or multiplies with it: any number above 0 does.
            numbers = {"number": {int, float}, "probability": {float}, "share": {float}}
            kinds = {"int": {int}, "count": {int}, "counts": {list[int]}, "bool": {bool}} | numbers
            assert members & kinds[setting.type], (setting, members)


def nested_hint(setting, members):
    """The type of a setting that is a field of a configuration inside the configuration; None for any other."""
    nested = [typing.get_type_hints(member) for member in filter(dataclasses.is_dataclass, members)]
    return next(({hints[setting.name]} for hints in nested if setting.name in hints), None)


def check_choices(method, setting, members):
    literals = {value for part in members for value in ([True, False] if part is bool else typing.get_args(part))}
    literals |= members - {bool, type(None), str} if literals and members & {True, False} else set()
    if not literals:
        return  # PEFT's annotation is a bare `str`: it names no values
    # A union with a bare `str` names no strings.
    named = {choice for choice in setting.choices if not (str in members and isinstance(choice, str))} - {None}
    assert named <= literals | {str(value) for value in literals}, setting
    refused = {value for value in literals if method.unsupported_value(setting, value)}
    assert refused == {value for value in literals if value not in setting.choices}, setting
