"""Adapters as plain PEFT directories: `adapter_config.json` and `adapter_model.safetensors`.

One adapter is written into the folder itself, several into a folder each, under their names.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from safetensors.torch import save

from surgery.diagnostics import Diagnostics
from surgery.files import replace_file
from surgery.inject.compare import compare
from surgery.inject.replace import replaced_folder
from surgery.inject.state import Adapted, adapter_state
from surgery.planning.plan import Plan

WEIGHTS = "adapter_model.safetensors"
CONFIG = "adapter_config.json"


def adapter_folders(plan: Plan, directory: Path | str) -> dict[str, Path]:
    """Where each adapter of the plan lies in a saved directory, by its name."""
    names = list(dict.fromkeys(site.adapter for site in plan.sites))
    return {name: Path(directory) / name if len(names) > 1 else Path(directory) for name in names}


def save_adapters(model: Adapted, plan: Plan, directory: Path | str) -> None:
    """Write every adapter of the plan, and with the first the trained modules, as PEFT directories.

    The directory is replaced in one step by a complete one. Raises SurgeryError: E0509 for a model that is not the
    plan's, as one that a `surgery.Runtime` has prepared; E0514 where it cannot be written.
    """
    Diagnostics(compare(model, plan)).raise_errors()
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
    if config.peft_type == "ADALORA":
        values["rank_pattern"] = (
            None  # it says which ranks a file leaves out; ours keep them, with singular values of 0
        )
    base = type(model.base_model.model)
    # PEFT writes which class it adapted where no task is set (`PeftModel.save_pretrained`).
    mapping = {"base_model_class": base.__name__, "parent_library": base.__module__}
    return json.loads(json.dumps({**values, "inference_mode": True, "auto_mapping": mapping}, default=_plain))


def _plain(value: Any) -> Any:
    """Enums and sub-configurations of PEFT's configuration classes."""
    return value.value if hasattr(value, "value") else vars(value)
