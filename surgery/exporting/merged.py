"""One safetensors file with the base model's keys and dtypes, the adapters merged into its weights.

Each layer is merged in float32, its bias too where the method changes it, and rounded once, to the dtypes it has in
the base model.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from surgery.diagnostics import Diagnostic, Diagnostics
from surgery.exporting.format import Format
from surgery.inject.state import Adapted, base_model, layer_of, wrappers
from surgery.planning.plan import Plan, Site
from surgery.planning.words import counted
from surgery.verifying.merging import merge, prove_layer, prove_outputs, worst_of
from surgery.verifying.verification import Proof

FILE = "model.safetensors"


def _write(model: Adapted, plan: Plan, folder: Path, inputs: Any) -> tuple[Proof, ...]:
    own = own_state(model, plan)
    merged = _merged(model, plan)
    Diagnostics(_tied(own, merged)).raise_errors()
    # Tied tensors are written under each of their keys, so that the file loads into the bare model strictly.
    tensors = {key: merged.get(key, tensor).detach().cpu().contiguous().clone() for key, tensor in own.items()}
    save_file(tensors, folder / FILE, metadata={"format": "pt"})
    names = {site.full_path: [key for key in merged if _is_of(key, site)] for site in plan.sites}
    del tensors, merged
    written = load_file(folder / FILE)

    def source(site: Site) -> dict[str, torch.Tensor]:
        return {key.removeprefix(f"{site.path}."): written[key] for key in names[site.full_path]}

    base = base_model(model)
    proofs = [worst_of([prove_layer(site, layer_of(base, site), source(site)) for site in plan.sites])]
    if inputs is not None:
        proofs.append(prove_outputs(model, plan.sites, source, inputs))
    Diagnostics(_broken(proof) for proof in proofs if not proof.holds).raise_errors()
    return tuple(proofs)


def own_state(model: Adapted, plan: Plan) -> dict[str, torch.Tensor]:
    """The base model's state under its own keys: trained modules as trained, adapted layers without their adapters."""
    base = base_model(model)
    trained = {path: next(iter(wrapper.modules_to_save)) for path, wrapper in wrappers(base)}
    sites = Counter(site.path for site in plan.sites)  # a module has a wrapper for each of its adapted parameters
    state: dict[str, torch.Tensor] = {}
    for key, tensor in base.state_dict().items():
        owner = _owner(key, sites, trained)
        if not owner:
            state[key] = tensor
            continue
        inner = "base_layer." * sites[owner] if owner in sites else f"modules_to_save.{trained[owner]}."
        name = key[len(owner) + 1 :]
        if name.startswith(inner):
            state[f"{owner}.{name.removeprefix(inner)}"] = tensor
    return state


def _is_of(key: str, site: Site) -> bool:
    return key == site.full_path if site.parameter else key.rpartition(".")[0] == site.path


def _owner(key: str, sites: Collection[str], trained: dict[str, str]) -> str:
    """The adapted or trained module that a key lies in, or an empty text."""
    path = key.rpartition(".")[0]
    while path and path not in sites and path not in trained:
        path = path.rpartition(".")[0]
    return path


def _merged(model: Adapted, plan: Plan) -> dict[str, torch.Tensor]:
    """What merging changes, by its key. Raises SurgeryError (E0513) with every reason why some cannot be."""
    base = base_model(model)
    merged: dict[str, torch.Tensor] = {}
    reasons: dict[str, list[Site]] = {}
    for site in plan.sites:
        changed = merge(site, layer_of(base, site))
        if isinstance(changed, str):
            reasons.setdefault(changed, []).append(site)
        else:
            merged |= {f"{site.path}.{name}": tensor for name, tensor in changed.items()}
    Diagnostics(_cannot_merge(sites, reason) for reason, sites in reasons.items()).raise_errors()
    return merged


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


def _cannot_merge(sites: list[Site], why: str) -> Diagnostic:
    first, more = sites[0], len(sites) - 1
    others = f" and of {counted(more, 'other module')}" if more else ""
    return Diagnostic(
        "E0513",
        f"the adapter of `{first.path}`{others} cannot be merged into its weight",
        place=first.place,
        notes=(why,),
        helps=("export with `--to peft`, or take these modules out of their targets",),
    )


def _broken(proof: Proof) -> Diagnostic:
    return Diagnostic(
        "E0513",
        f"the merged model is not the adapted one; {proof}",
        notes=("nothing was left in the folder",),
        helps=("export with `--to peft`; merging into a wider dtype (`model.float()` before applying) rounds less",),
    )


MERGED = Format("merged", "one safetensors file with the base model's keys, adapters merged in", _write)
