"""Adapters as plain PEFT directories: `adapter_config.json` and `adapter_model.safetensors`.

One adapter is written into the folder itself, several into a folder each, under their names.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save

from surgery.diagnostics import Diagnostic, Diagnostics, SurgeryError
from surgery.files import replace_file
from surgery.inject.replace import replaced_folder
from surgery.inject.state import Adapted, adapter_state
from surgery.planning.plan import Plan

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


def load_adapters(model: Adapted, plan: Plan, directory: Path | str) -> None:
    """Copy saved adapters into a model that the same plan was applied to.

    The saved tensors must be the model's to the name and the shape; else, or when a file cannot be read, raises
    SurgeryError (E0501, E0509) with nothing copied.
    """
    state = adapter_state(model, plan)
    saved = {name: _read(folder / WEIGHTS) for name, folder in adapter_folders(plan, directory).items()}
    found = Diagnostics()
    for name, tensors in saved.items():
        if differences := _differences(state[name], tensors):
            found.add(_other_adapter(Path(directory), name, differences))
    found.raise_errors()
    with torch.no_grad():
        for name, tensors in saved.items():
            for key, tensor in tensors.items():
                state[name][key].copy_(tensor)


def _read(path: Path) -> dict[str, torch.Tensor]:
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise SurgeryError(
            Diagnostic(
                "E0501",
                f"cannot read the adapter: {getattr(error, 'strerror', None) or error}",
                place=str(path),
                helps=("give the folder that `surgery train` or `surgery export --to peft` wrote",),
            )
        ) from None


def _differences(live: dict[str, torch.Tensor], saved: dict[str, torch.Tensor]) -> list[str]:
    differences = [f"`{key}` is not in the file" for key in sorted(live.keys() - saved.keys())]
    differences += [f"`{key}` is not in the model" for key in sorted(saved.keys() - live.keys())]
    differences += [
        f"`{key}` has shape {list(saved[key].shape)}, in the model {list(live[key].shape)}"
        for key in sorted(live.keys() & saved.keys())
        if live[key].shape != saved[key].shape
    ]
    return differences


def _other_adapter(directory: Path, name: str, differences: list[str]) -> Diagnostic:
    more = len(differences) - _SHOWN
    return Diagnostic(
        "E0509",
        f"the saved adapter `{name}` is not the plan's",
        place=str(directory),
        notes=(*differences[:_SHOWN], *([f"and {more} more"] if more > 0 else [])),
        helps=("load it with the plan that it was trained by: `plan.json` of its run",),
    )
