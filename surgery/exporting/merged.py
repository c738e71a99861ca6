"""One safetensors file with the base model's keys and dtypes, the adapters merged into its weights.

Each weight is merged in float32 and rounded once, to the dtype it has in the base model.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from peft.tuners.tuners_utils import BaseTunerLayer
from safetensors.torch import load_file, save_file

from surgery.diagnostics import Diagnostic, Diagnostics, SurgeryError
from surgery.exporting.format import Format, Proof
from surgery.exporting.layer import base_weight, float_copy
from surgery.exporting.prove import prove_layers, prove_outputs
from surgery.inject.state import Adapted, base_model, layer_at, wrappers
from surgery.planning.plan import Plan, Site

FILE = "model.safetensors"


def _write(model: Adapted, plan: Plan, folder: Path, inputs: Any) -> tuple[Proof, ...]:
    own = own_state(model, plan)
    merged = dict(_merged_weights(model, plan))
    Diagnostics(_tied(own, merged)).raise_errors()
    # Tied tensors are written under each of their keys, so that the file loads into the bare model strictly.
    tensors = {key: merged.get(key, tensor).detach().cpu().contiguous().clone() for key, tensor in own.items()}
    save_file(tensors, folder / FILE, metadata={"format": "pt"})
    del tensors, merged
    written = load_file(folder / FILE)
    proofs = [prove_layers(model, plan, written)]
    if inputs is not None:
        proofs.append(prove_outputs(model, plan, written, inputs))
    Diagnostics(_broken(proof) for proof in proofs if not proof.difference <= proof.tolerance).raise_errors()
    return tuple(proofs)


def own_state(model: Adapted, plan: Plan) -> dict[str, torch.Tensor]:
    """The base model's state under its own keys: trained modules as trained, adapted layers without their adapters."""
    base = base_model(model)
    trained = {path: next(iter(wrapper.modules_to_save)) for path, wrapper in wrappers(base)}
    sites = {site.path for site in plan.sites}
    state: dict[str, torch.Tensor] = {}
    for key, tensor in base.state_dict().items():
        owner = _owner(key, sites, trained)
        if not owner:
            state[key] = tensor
            continue
        inner = "base_layer." if owner in sites else f"modules_to_save.{trained[owner]}."
        name = key[len(owner) + 1 :]
        if name.startswith(inner):
            state[f"{owner}.{name.removeprefix(inner)}"] = tensor
    return state


def _owner(key: str, sites: set[str], trained: dict[str, str]) -> str:
    """The adapted or trained module that a key lies in, or an empty text."""
    path = key.rpartition(".")[0]
    while path and path not in sites and path not in trained:
        path = path.rpartition(".")[0]
    return path


def _merged_weights(model: Adapted, plan: Plan) -> Iterator[tuple[str, torch.Tensor]]:
    base = base_model(model)
    for site in plan.sites:
        yield f"{site.path}.weight", merged_weight(site, layer_at(base, site.path))


def merged_weight(site: Site, layer: BaseTunerLayer) -> torch.Tensor:
    """The weight of one adapted layer with its adapter merged in float32, in the weight's own dtype."""
    copy = float_copy(layer)
    try:
        copy.merge(safe_merge=True, adapter_names=[site.adapter])
    except (NotImplementedError, RuntimeError, ValueError) as error:
        raise SurgeryError(_cannot_merge(site, str(error))) from error
    return base_weight(copy).detach().to(base_weight(layer).dtype)


def _tied(own: dict[str, torch.Tensor], merged: dict[str, torch.Tensor]) -> Iterator[Diagnostic]:
    """Keys of one storage that would need two values: loading the file would give both the last one."""
    sharing: dict[Any, list[str]] = {}
    for key, tensor in own.items():
        sharing.setdefault((tensor.untyped_storage()._cdata, tensor.storage_offset(), tensor.shape), []).append(key)
    for keys in sharing.values():
        changed = [key for key in keys if key in merged]
        if len(keys) > 1 and changed:
            others = ", ".join(f"`{key}`" for key in keys if key != changed[0])
            yield Diagnostic(
                "E0513",
                f"`{changed[0]}` is tied to {others}: one weight cannot be both merged and as it was",
                helps=("export with `--to peft`, or untie the weights in the base model",),
            )


def _cannot_merge(site: Site, why: str) -> Diagnostic:
    return Diagnostic(
        "E0513",
        f"the adapter of `{site.path}` cannot be merged into its weight",
        place=site.place,
        notes=(why,) if why else (),
        helps=("export with `--to peft`, or take this module out of its target",),
    )


def _broken(proof: Proof) -> Diagnostic:
    return Diagnostic(
        "E0513",
        f"the merged model is not the adapted one; {proof}",
        notes=("nothing was left in the folder",),
        helps=("export with `--to peft`; merging into a wider dtype (`model.float()` before applying) rounds less",),
    )


MERGED = Format("merged", "one safetensors file with the base model's keys, adapters merged in", _write)
