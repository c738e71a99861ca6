"""The settings that stand beside the tensors of an adapter, for each module of the plan."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from surgery.importing.foreign import Declared
from surgery.importing.matching import PEFT_PREFIX, Spelled
from surgery.methods import METHODS
from surgery.methods.catalogue import CATALOGUE
from surgery.methods.reasons import BY_SURGERY
from surgery.planning.plan import Site

_PATTERNS = {"r": "rank_pattern", "lora_alpha": "alpha_pattern", "alpha": "alpha_pattern"}
_SCALING = frozenset(("r", "lora_alpha", "alpha", "use_rslora"))  # compared as scales and shapes
# How an adapter was started, or is trained and served, not what it adds.
_NEUTRAL = frozenset(
    (
        *("corda_config", "eva_config", "lora_ga_config", "loftq_config"),
        *("megatron_config", "megatron_core", "runtime_config", "ensure_weight_tying", "qalora_group_size"),
    )
)
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
            for pattern in patterns.keys():  # noqa: SIM118 - a list has no keys, and is refused
                re.compile(pattern)
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
            yield f"{settings.source} is of {settings.values['peft_type']}, `{site.full_path}` is to get {site.method}"
            return
        wanted = method.fields(site.settings)
        yield from _differing(site, wanted, settings.at(site.full_path), site.method in scaled)


def _differing(site: Site, wanted: Mapping[str, Any], stated: Mapping[str, Any], scaled: bool) -> Iterator[str]:
    """What is declared in PEFT's fields, but for where an adapter goes, how it is trained, and how it started."""
    method, place = METHODS[site.method], f"of `{site.full_path}`"
    for field, known in CATALOGUE[method.peft_type].fields.items():
        if field in BY_SURGERY or field in _NEUTRAL or "dropout" in field or (scaled and field in _SCALING):
            continue
        value, other = wanted.get(field, known.default), stated.get(field, known.default)
        if "init" in field:
            if other != value and any(str(init).startswith(_CHANGES_BASE) for init in (value, other)):
                yield f"{field} {place} is {other!r}, in the plan {value!r}, and that changes the base model"
        elif field == "feedforward_modules":
            if _selects(other, site.path) != _selects(value, site.path):
                yield f"{field} of (IA)3 has not the plan's choice for `{site.full_path}`"
        elif not _same(other, value):
            yield f"{field} {place} is {other!r}, in the plan {value!r}"


def _same(stated: object, wanted: object) -> bool:
    """Whether two values mean the same: PEFT writes a variant's whole configuration, and nothing in several ways."""
    if isinstance(stated, dict) and isinstance(wanted, dict):
        return all(_same(stated.get(key), value) for key, value in wanted.items())
    return stated == wanted or not (stated or wanted)


def _selects(names: object, path: str) -> bool:
    """As `peft.tuners.ia3.model.IA3Model._check_target_module_feedforward`."""
    if isinstance(names, str):
        return re.fullmatch(names, path) is not None
    return isinstance(names, list) and path.endswith(tuple(names))
