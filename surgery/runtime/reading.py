"""Adapters from files and from memory: how they are applied at every site of a plan, and their tensors."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from peft.utils.other import get_pattern_key
from safetensors import SafetensorError
from safetensors.torch import load_file

from surgery.diagnostics import Diagnostic, SurgeryError
from surgery.files import read_text
from surgery.importing import fit, read_adapter
from surgery.inject.directory import CONFIG, WEIGHTS, adapter_folders
from surgery.methods import METHODS
from surgery.methods.catalogue import CATALOGUE
from surgery.methods.setting import Setting
from surgery.planning.plan import Plan, Site
from surgery.planning.swapping import Obstacle, free_settings, is_ranked, module_of
from surgery.planning.words import value_text
from surgery.runtime.adapter import Adapter, Applied, as_planned

Shapes = Callable[[], dict[str, dict[str, tuple[int, ...]]]]

# What of a ranked method's settings is swapped with its adapter.
_SWAPPED = ("r", "alpha", "rslora")
# Fields that say where an adapter goes, where it comes from, or what follows from the module: the keys of its
# tensors are compared instead.
_PLACING = frozenset(
    (
        *("target_modules", "exclude_modules", "layers_to_transform", "layers_pattern", "modules_to_save"),
        *("rank_pattern", "alpha_pattern", "inference_mode", "task_type", "auto_mapping", "fan_in_fan_out"),
        *("peft_type", "peft_version", "base_model_name_or_path", "revision"),
    )
)
_HELP = "give the folder that holds adapter_config.json and adapter_model.safetensors"


def read_source(path: Path, plan: Plan, shapes: Shapes) -> tuple[Adapter, list[Obstacle]]:
    """The adapter at a path, for a plan's sites, and how its configuration differs in what swapping cannot change.

    PEFT directories, as `surgery export --to peft` or plain PEFT writes them, keep their ranks and scales. Any other
    file is fitted to the plan, as `surgery.load_adapter` does, whose sizes `shapes()` gives by PEFT adapter and key.
    The tensors lie on the CPU. Raises SurgeryError: E0501 for what cannot be read, E0519 for another file that does
    not fit.
    """
    folders = adapter_folders(plan, path)
    if path.is_dir() and all((folder / CONFIG).exists() for folder in folders.values()):
        return _from_directories(folders, plan)
    values = fit(read_adapter(path), plan, shapes()).read()
    return Adapter(as_planned(plan.sites), {key: t for tensors in values.values() for key, t in tensors.items()}), []


def _from_directories(folders: Mapping[str, Path], plan: Plan) -> tuple[Adapter, list[Obstacle]]:
    sites: dict[str, Applied] = {}
    tensors: dict[str, torch.Tensor] = {}
    obstacles: list[Obstacle] = []
    for name, folder in folders.items():
        config = _read_config(folder / CONFIG)
        own = [site for site in plan.sites if site.adapter == name]
        found = list(obstacles_of_config(config, own))
        sites |= as_planned(own) if found else configured(own, config)
        tensors |= _read_tensors(folder / WEIGHTS)
        obstacles += found
    return Adapter(sites, tensors), obstacles


def from_tensors(
    tensors: Mapping[str, torch.Tensor], plan: Plan, config: Mapping[str, Any] | None
) -> tuple[Adapter, list[Obstacle]]:
    """The same for tensors in memory, applied as the plan says or as a configuration of PEFT does."""
    sites = as_planned(plan.sites)
    if config is None:
        return Adapter(sites, tensors), []
    if len({site.adapter for site in plan.sites}) > 1:
        return Adapter(sites, tensors), [Obstacle("one configuration cannot be that of the plan's several adapters")]
    obstacles = list(obstacles_of_config(config, plan.sites))
    return Adapter(sites if obstacles else configured(plan.sites, config), tensors), obstacles


def configured(sites: Sequence[Site], config: Mapping[str, Any]) -> dict[str, Applied]:
    """How a PEFT configuration applies its adapter at the sites of one PEFT adapter, by its patterns too."""
    if not is_ranked(sites[0]):
        return as_planned(sites)
    method = METHODS[sites[0].method]
    swapped = [setting for setting in method.settings if setting.name in _SWAPPED]
    values = {setting.name: config.get(setting.field, setting.default) for setting in swapped}
    patterns: dict[str, dict[str, Any]] = {s.name: config[s.pattern] for s in swapped if config.get(s.pattern)}
    made: dict[tuple[Any, ...], Applied] = {}  # most sites are applied alike, and there may be thousands
    applied = {}
    for site in sites:
        at = {name: _by_pattern(pattern, site.path, values[name]) for name, pattern in patterns.items()}
        key = tuple(at.values())
        if key not in made:
            settings = {**site.settings, **values, **at}
            made[key] = Applied(settings, method.scale(module_of(site), settings), int(settings["r"]))
        applied[site.path] = made[key]
    return applied


def _by_pattern(pattern: dict[str, Any], path: str, default: Any) -> Any:
    return pattern.get(get_pattern_key(list(pattern), path), default)


def obstacles_of_config(config: Mapping[str, Any], sites: Sequence[Site]) -> Iterator[Obstacle]:
    """What this configuration says that a swap cannot bring about at these sites, all of one PEFT adapter."""
    first = sites[0]
    method = METHODS[first.method]
    if config.get("peft_type") != method.peft_type:
        yield Obstacle(f"its configuration is of {config.get('peft_type')}, the plan of {method.peft_type}")
        return
    if damaged := list(_damaged(config, method.settings)) if is_ranked(first) else []:
        yield from damaged
        return
    free = {setting.field for setting in method.settings if setting.name in free_settings(first)}
    wanted = {name: field.default for name, field in CATALOGUE[method.peft_type].fields.items()}
    wanted |= method.fields(first.settings)
    for name in sorted(config.keys() - _PLACING - free):
        if not _agree(config[name], wanted.get(name)):
            yield Obstacle(
                f"its configuration sets {name} = {value_text(config[name])}, the plan {value_text(wanted.get(name))}"
            )
    start = next((setting.field for setting in method.settings if setting.name == "init"), "")
    begun = {**first.settings, "init": config.get(start, first.settings.get("init"))}
    if method.writes_weights(begun) != method.writes_weights(first.settings):
        yield Obstacle(f"its configuration sets {start} = {value_text(begun['init'])}, which changes the base weights")


def _damaged(config: Mapping[str, Any], settings: Sequence[Setting]) -> Iterator[Obstacle]:
    """Ranks, alphas and patterns of them that cannot be applied."""
    for setting in settings:
        if setting.name not in _SWAPPED:
            continue
        values = [config.get(setting.field, setting.default)]
        if setting.pattern and (patterns := config.get(setting.pattern)):
            try:
                values += patterns.values()
                any(re.compile(rf"(.*\.)?({key})$") for key in patterns)  # as `peft.utils.other.get_pattern_key`
            except (AttributeError, TypeError, re.error) as error:
                yield Obstacle(f"the {setting.pattern} of its configuration cannot be read: {error}")
        for value in values:
            if not _USABLE[setting.name](value):
                yield Obstacle(f"its configuration has {setting.field} = {value!r}")


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


# PEFT's own models fail on other ones, or are scaled by a number that single precision does not have.
_USABLE: dict[str, Callable[[Any], bool]] = {
    "r": lambda value: _is_number(value) and isinstance(value, int) and value > 0,
    "alpha": lambda value: _is_number(value) and abs(value) <= torch.finfo(torch.float32).max,
    "rslora": lambda value: isinstance(value, bool),
}


def _agree(found: Any, wanted: Any) -> bool:
    """Whether two values of a field are the same; files name every key of a part, and spell nothing in several ways."""
    if isinstance(found, dict) and isinstance(wanted, dict):
        return all(_agree(found.get(key), wanted.get(key)) for key in found.keys() | wanted.keys())
    if isinstance(found, (list, tuple)) and isinstance(wanted, (list, tuple)):
        return list(found) == list(wanted)
    return bool(found == wanted) or (not found and not wanted)


def _read_config(path: Path) -> dict[str, Any]:
    text = read_text(path, what="adapter's configuration", help=_HELP)
    try:
        config = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise SurgeryError(_unreadable(path, str(error))) from None
    if not isinstance(config, dict):
        raise SurgeryError(_unreadable(path, "it is not a JSON object"))
    return config


def _read_tensors(path: Path) -> dict[str, torch.Tensor]:
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise SurgeryError(_unreadable(path, getattr(error, "strerror", None) or str(error))) from None


def _unreadable(path: Path, why: str) -> Diagnostic:
    return Diagnostic("E0501", f"cannot read the adapter: {why}", place=str(path), helps=(_HELP,))
