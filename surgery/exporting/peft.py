"""Plain PEFT directories, as `PeftModel.from_pretrained` loads them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from peft import PeftConfig
from peft.tuners.tuners_utils import BaseTunerLayer, check_target_module_exists
from safetensors.torch import load_file

from surgery.diagnostics import Diagnostic, SurgeryError
from surgery.exporting.format import Format
from surgery.inject.directory import WEIGHTS, adapter_folders, write_adapters
from surgery.inject.parameters import target_parameters
from surgery.inject.state import Adapted, adapter_state, base_model
from surgery.planning.plan import Plan
from surgery.verifying.verification import Proof


def _write(model: Adapted, plan: Plan, folder: Path, inputs: Any) -> tuple[Proof, ...]:
    write_adapters(model, plan, folder)
    state = adapter_state(model, plan)
    names = _own_names(model)
    for adapter, path in adapter_folders(plan, folder).items():
        written = load_file(path / WEIGHTS)
        tensors = state[adapter]
        same = written.keys() == tensors.keys() and all(_equal(written[key], tensors[key]) for key in tensors)
        config = PeftConfig.from_pretrained(str(path))
        sites = [site for site in plan.sites if site.adapter == adapter]
        planned = {site.path for site in sites if not site.parameter}
        named = sorted(getattr(config, "target_parameters", None) or ())
        selected = {name for name in names if check_target_module_exists(config, name)}
        if not same or selected != planned or named != target_parameters(sites):
            raise SurgeryError(_not_read_back(adapter, same))
    return (Proof("tensors read back and modules that PEFT selects by them", 0.0, 0.0),)


def _equal(written: torch.Tensor, live: torch.Tensor) -> bool:
    return written.dtype == live.dtype and torch.equal(written, live.detach().cpu())


def _own_names(model: Adapted) -> list[str]:
    """The module paths of the user's model, without what PEFT put into it."""
    base = base_model(model)
    layers = {path for path, module in base.named_modules() if isinstance(module, BaseTunerLayer)}
    return [
        path
        for path, _ in base.named_modules()
        if path and not any(path.startswith(layer + ".") for layer in _ancestors(path) & layers)
    ]


def _ancestors(path: str) -> set[str]:
    parts = path.split(".")
    return {".".join(parts[:end]) for end in range(1, len(parts))}


def _not_read_back(adapter: str, same: bool) -> Diagnostic:
    what = "its modules" if same else "its tensors"
    return Diagnostic(
        "E0513",
        f"the written adapter `{adapter}` does not hold {what} as they are",
        notes=("nothing was left in the folder",),
        helps=("check the disk, and report this with the plan if it repeats",),
    )


PEFT = Format("peft", "a folder that plain `PeftModel.from_pretrained` loads", _write)
