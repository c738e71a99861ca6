"""An adapter of a running model as PEFT directories, at its own rank and with its own rank, alpha and targets."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from safetensors.torch import save

from surgery.files import replace_file
from surgery.inject.directory import CONFIG, WEIGHTS, adapter_folders, config_json
from surgery.inject.lowering import Lowered, lower
from surgery.inject.replace import replaced_folder
from surgery.inject.state import Adapted, base_model
from surgery.methods import METHODS
from surgery.planning.plan import Plan
from surgery.runtime.adapter import Adapter
from surgery.runtime.table import Table

_OF_THE_SITES = ("target_modules", "rank_pattern", "alpha_pattern")


def save_adapter(model: Adapted, plan: Plan, table: Table, adapter: Adapter, directory: Path) -> None:
    """Write the adapter for plain PEFT, one folder for each PEFT adapter of the plan that it is a part of.

    The directory is replaced in one step by a complete one. Raises SurgeryError (E0514).
    """
    sites = [
        site.model_copy(update={"settings": dict(applied.settings), "scale": applied.scale})
        for site in plan.sites
        if (applied := adapter.sites.get(site.path)) is not None
    ]
    own = plan.model_copy(update={"sites": sites})
    trained = [slot.key for slot in table.others]  # PEFT keeps them with the first adapter
    with replaced_folder(directory) as temporary:
        folders = adapter_folders(own, temporary)
        for lowered in lower(base_model(model), own):
            folder = folders[lowered.name]
            folder.mkdir(exist_ok=True)
            keys = [slot.key for site in lowered.sites for slot in table.places[site.path].slots]
            tensors = {key: adapter.tensors[key].detach().cpu().contiguous().clone() for key in [*keys, *trained]}
            trained = []
            replace_file(folder / WEIGHTS, save(tensors, metadata={"format": "pt"}))
            replace_file(folder / CONFIG, json.dumps(_config(model, lowered), indent=2, sort_keys=True) + "\n")


def _config(model: Adapted, lowered: Lowered) -> dict[str, Any]:
    """PEFT's configuration in the model, with what this adapter has of its own."""
    method = METHODS[lowered.sites[0].method]
    fields = (*_OF_THE_SITES, *(setting.field for setting in method.settings))
    own = {name: getattr(lowered.config, name) for name in fields if hasattr(lowered.config, name)}
    return {**config_json(model, lowered.name), **own}
