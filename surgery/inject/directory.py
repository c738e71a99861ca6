"""Adapters as plain PEFT directories: `adapter_config.json` and `adapter_model.safetensors`.

One adapter is written into the folder itself, several into a folder each, under their names.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save

from surgery.diagnostics import Diagnostic, SurgeryError
from surgery.files import replace_file
from surgery.importing import Fitted, fit, read_adapter
from surgery.importing.fit import Scale
from surgery.inject.replace import replaced_folder
from surgery.inject.state import Adapted, adapter_state
from surgery.language.nearest import listed
from surgery.planning.plan import Plan
from surgery.planning.words import counted

WEIGHTS = "adapter_model.safetensors"
CONFIG = "adapter_config.json"
_SHOWN = 8


def adapter_folders(plan: Plan, directory: Path | str) -> dict[str, Path]:
    """Where each adapter of the plan lies in a saved directory, by its name."""
    names = list(dict.fromkeys(site.adapter for site in plan.sites))
    return {name: Path(directory) / name if len(names) > 1 else Path(directory) for name in names}


def save_adapters(model: Adapted, plan: Plan, directory: Path | str) -> None:
    """Write every adapter of the plan, and with the first the trained modules, as PEFT directories.

    The directory is replaced in one step by a complete one. Raises SurgeryError (E0514).
    """
    with replaced_folder(Path(directory)) as temporary:
        write_adapters(model, plan, temporary)


def write_adapters(model: Adapted, plan: Plan, directory: Path) -> None:
    """Write the PEFT directories into an existing folder that nobody reads yet."""
    state = adapter_state(model, plan)
    for name, folder in adapter_folders(plan, directory).items():
        folder.mkdir(exist_ok=True)
        # Two trained modules may share a tensor, which safetensors does not store: each gets its own copy.
        tensors = {key: tensor.detach().cpu().contiguous().clone() for key, tensor in state[name].items()}
        replace_file(folder / WEIGHTS, save(tensors, metadata={"format": "pt"}))
        replace_file(folder / CONFIG, json.dumps(config_json(model, name), indent=2, sort_keys=True) + "\n")


def config_json(model: Adapted, name: str) -> dict[str, Any]:
    """The adapter's configuration as PEFT writes it."""
    config = model.peft_config[name]
    values = {key: sorted(value) if isinstance(value, set) else value for key, value in config.to_dict().items()}
    base = type(model.base_model.model)
    # PEFT writes which class it adapted where no task is set (`PeftModel.save_pretrained`).
    mapping = {"base_model_class": base.__name__, "parent_library": base.__module__}
    return json.loads(json.dumps({**values, "inference_mode": True, "auto_mapping": mapping}, default=_plain))


def _plain(value: Any) -> Any:
    """Enums and sub-configurations of PEFT's configuration classes."""
    return value.value if hasattr(value, "value") else vars(value)


@dataclass(frozen=True)
class Loaded:
    """What `load_adapter` has loaded: keys of PEFT checkpoints. `not_loaded` is empty: else E0519 was raised.

    `prefix` is what the file has before the paths of the plan, `scale` where its scales are from, `rescaled` by how
    much the file's scale is another one than the plan's, by site; that factor went into a tensor of the site.
    `converted` counts the tensors that the file holds in another type than the model, by the two types.
    """

    file: Path
    loaded: tuple[str, ...]
    not_loaded: tuple[str, ...]
    prefix: str
    scale: str
    rescaled: Mapping[str, float]
    converted: Mapping[tuple[str, str], int]

    def __str__(self) -> str:
        behind = f", whose paths stand behind `{self.prefix}`" if self.prefix else ""
        lines = [f"loaded    all {counted(len(self.loaded), 'tensor')} of {self.file}{behind}"]
        factors = ", ".join(f"{factor:g}" for factor in sorted(set(self.rescaled.values()))[:_SHOWN])
        changed = f"; {counted(len(self.rescaled), 'module')} rescaled to the plan's, by {factors}" if factors else ""
        lines.append(f"scale     {self.scale}{changed}")
        types = ", ".join(f"{count:,} from {own} to {live}" for (own, live), count in self.converted.items())
        return "\n".join([*lines, *([f"converted {types}"] if types else [])])


def load_adapter(
    model: Adapted,
    plan: Plan,
    path: Path | str,
    *,
    adapter: str | None = None,
    only: str | None = None,
    scale: Scale = "file",
    strict: bool = False,
) -> Loaded:
    """Copy an adapter from elsewhere into a model that the plan was applied to: exactly, or not at all.

    `path` is a safetensors file or the folder of one, as PEFT, diffusers, kohya, LyCORIS, VoxCPM or ComfyUI's users
    write it. One file fills all adapters of the plan, or the one that `adapter` names; `only`, `scale` and `strict`
    are those of `surgery.importing.fit`. Raises SurgeryError with nothing copied: E0501 for what cannot be read, E0519
    with all that differs, E0103 for an `adapter` that the plan does not have.
    """
    state = adapter_state(model, plan)
    if adapter is not None:
        if adapter not in state:
            raise SurgeryError(_no_adapter(adapter, state))
        state = {adapter: state[adapter]}
    fitted = fit(read_adapter(path), plan, _shapes(state), only=only, scale=scale, strict=strict)
    return _loaded(fitted, _copy(fitted.read().items(), state))


def load_adapters(model: Adapted, plan: Plan, directory: Path | str) -> None:
    """Copy saved adapters, each from its folder, into a model that the same plan was applied to.

    The saved tensors must be the model's to the name and the shape, with the plan's settings and scales; else, or when
    a file cannot be read, raises SurgeryError (E0501, E0519) with nothing copied.
    """
    state = adapter_state(model, plan)
    fitted = [
        fit(read_adapter(folder), plan, _shapes({name: state[name]}), strict=True)
        for name, folder in adapter_folders(plan, directory).items()
    ]
    _copy([values for one in fitted for values in one.read().items()], state)


def _shapes(state: dict[str, dict[str, torch.Tensor]]) -> dict[str, dict[str, tuple[int, ...]]]:
    return {name: {key: tuple(tensor.shape) for key, tensor in tensors.items()} for name, tensors in state.items()}


def _copy(
    values: Iterable[tuple[str, dict[str, torch.Tensor]]], state: dict[str, dict[str, torch.Tensor]]
) -> Counter[tuple[str, str]]:
    """Fill the live tensors by values that have all been read, and count which types were converted."""
    pairs = [(state[name][key], value) for name, tensors in values for key, value in tensors.items()]
    with torch.no_grad():
        for live, value in pairs:
            if live.is_meta:
                made = value.to(live.dtype)
                is_parameter = isinstance(live, torch.nn.Parameter)
                torch.utils.swap_tensors(live, torch.nn.Parameter(made, live.requires_grad) if is_parameter else made)
            else:
                live.copy_(value)
    return Counter((_name(value), _name(live)) for live, value in pairs if value.dtype != live.dtype)


def _loaded(fitted: Fitted, converted: Counter[tuple[str, str]]) -> Loaded:
    return Loaded(
        file=fitted.adapter.file,
        loaded=tuple(slot.key for slot in fitted.sources),
        not_loaded=(),
        prefix=fitted.spelled.prefix,
        scale=fitted.scale,
        rescaled=fitted.rescaled,
        converted=converted,
    )


def _name(tensor: torch.Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def _no_adapter(adapter: str, known: Iterable[str]) -> Diagnostic:
    return Diagnostic("E0103", f"the plan has no adapter `{adapter}`", helps=(f"it has {listed(known)}",))
