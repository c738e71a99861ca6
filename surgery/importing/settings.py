"""The settings that stand beside the tensors of an adapter, for each module of the plan."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from surgery.importing.foreign import Declared
from surgery.importing.matching import PEFT_PREFIX, Spelled
from surgery.methods import METHODS
from surgery.planning.plan import Site

_PATTERNS = {"r": "rank_pattern", "lora_alpha": "alpha_pattern", "alpha": "alpha_pattern"}
# LoRA's ways of starting that change the base model, so that the adapter is none of the model as it was.
_CHANGES_BASE = ("pissa", "olora", "corda", "loftq", "lora_ga")


@dataclass(frozen=True)
class Settings:
    """PEFT's settings of one adapter, made for a model in which a path of the plan, `below` + x, is `inside` + x."""

    source: str
    values: Mapping[str, Any]
    below: str
    inside: str

    def at(self, path: str) -> dict[str, Any]:
        """The settings of the module at a path of the plan, with its own rank and alpha.

        PEFT finds a pattern by `re.match(r"(.*\\.)?(KEY)$", path)`, and the first one wins
        (`peft.utils.other.get_pattern_key`).
        """
        values = dict(self.values)
        name = self.inside + path.removeprefix(self.below)
        for field, patterns in _PATTERNS.items():
            if field in values:
                found = (v for k, v in (self.values.get(patterns) or {}).items() if re.match(rf"(.*\.)?({k})$", name))
                values[field] = next(found, values[field])
        return values


def settings_of(declared: Declared | None, spelled: Spelled) -> Settings | str | None:
    """The settings of a file whose paths are spelled so, or what is wrong with them; None where there are none.

    A file of several components, as diffusers writes it, has `transformer.r` for the paths behind `transformer.`.
    """
    if declared is None:
        return None
    component = spelled.prefix.removeprefix(PEFT_PREFIX)
    own = {key.removeprefix(component): value for key, value in declared.values.items() if key.startswith(component)}
    if component and "peft_type" in own:
        settings = Settings(declared.source, own, spelled.below, "")
    else:
        settings = Settings(declared.source, declared.values, spelled.below, component)
    if "peft_type" not in settings.values:
        return None
    return _damaged(settings) or settings


def _damaged(settings: Settings) -> str | None:
    for field in ("rank_pattern", "alpha_pattern"):
        patterns = settings.values.get(field) or {}
        try:
            re.compile("|".join(patterns.keys()))
        except (AttributeError, TypeError, re.error) as error:
            return f"the {field} of {settings.source} cannot be read: {error}"
    return None


def differing(sites: Sequence[Site], settings: Settings | None, scaled: Mapping[str, Any]) -> Iterator[str]:
    """What is declared and means another update than the plan's, though the tensors' names and shapes may agree.

    The rank and alpha of methods that are `scaled` are not compared here: their scales are.
    """
    for site in sites:
        method = METHODS[site.method]
        if settings is None:
            if site.method not in scaled:
                yield f"nothing says the settings of {site.method}, which its tensors alone do not"
                return
            continue
        if settings.values["peft_type"] != method.peft_type:
            yield f"{settings.source} is of {settings.values['peft_type']}, `{site.path}` is to get {site.method}"
            return
        wanted = method.fields(site.settings)
        yield from _differing(site, wanted, settings.at(site.path), compare_all=site.method not in scaled)


def _differing(site: Site, wanted: Mapping[str, Any], stated: Mapping[str, Any], compare_all: bool) -> Iterator[str]:
    """Dropout acts in training only, and how an adapter starts is past, unless that changed the base model."""
    for field, value in wanted.items():
        other = stated.get(field, value)
        if other == value or "dropout" in field:
            continue
        if "init" in field:
            if any(isinstance(init, str) and init.startswith(_CHANGES_BASE) for init in (value, other)):
                yield f"{field} of `{site.path}` is {other!r}, in the plan {value!r}, and that changes the base model"
        elif compare_all:
            yield f"{field} of `{site.path}` is {other!r}, in the plan {value!r}"
