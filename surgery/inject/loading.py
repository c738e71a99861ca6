"""Loading adapters into a model that carries a plan's: exactly, or not at all."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeAlias

import torch
from peft.tuners.tuners_utils import BaseTunerLayer
from safetensors import safe_open

from surgery.diagnostics import Diagnostic, SurgeryError
from surgery.importing import Fitted, ForeignAdapter, fit, read_adapter
from surgery.importing.differences import listed as some_of
from surgery.importing.differences import unfit
from surgery.importing.fit import Scale
from surgery.inject.directory import WEIGHTS, adapter_folders
from surgery.inject.patterns import MODEL_PREFIX
from surgery.inject.state import Adapted, adapter_state, base_model
from surgery.language.nearest import listed
from surgery.planning.plan import Plan
from surgery.planning.words import counted

State: TypeAlias = "dict[str, dict[str, torch.Tensor]]"  # by adapter, by key of its PEFT checkpoint

_SHOWN = 8


@dataclass(frozen=True)
class Loaded:
    """What `load_adapter` has loaded: keys of PEFT checkpoints. `not_loaded` is empty: else E0519 was raised.

    `prefix` is what the file has before the paths of the plan, `scale` where its scales are from, `rescaled` by how
    much the file's scale is another one than the plan's, by site; that factor went into a tensor of the site.
    `converted` counts the tensors that the file holds in another type than the model, by the two types; `copies` are
    the file's keys of base weights, which the model has as they are there (PEFT saves those of adapted embeddings).
    """

    file: Path
    loaded: tuple[str, ...]
    not_loaded: tuple[str, ...]
    prefix: str
    scale: str
    rescaled: Mapping[str, float]
    converted: Mapping[tuple[str, str], int]
    copies: tuple[str, ...]

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
    write it, or a folder of PEFT directories under the names of the plan's adapters. One file fills all adapters of
    the plan, or the one that `adapter` names; `only`, `scale` and `strict` are those of `surgery.importing.fit`.
    Adapters on meta are filled with real tensors on the CPU. Raises SurgeryError with nothing copied: E0501 for what
    cannot be read, E0519 with all that differs, or for weights that are not finite in the model's type, E0103 for an
    `adapter` that the plan does not have. Interrupted while it copies, it puts back what was there.
    """
    state = adapter_state(model, plan)
    if adapter is not None:
        if adapter not in state:
            raise SurgeryError(_no_adapter(adapter, state))
        state = {adapter: state[adapter]}
    fitted: list[Fitted] = []
    copies: list[str] = []
    for file, names in _files(plan, Path(path), state):
        found = read_adapter(file)
        own = {name: state[name] for name in names}
        copied = set() if only else _copies(found, model, own)
        copies += sorted(copied)
        found = replace(found, tensors={k: tensor for k, tensor in found.tensors.items() if k not in copied})
        fitted.append(fit(found, plan, _shapes(own), only=only, scale=scale, strict=strict))
    pairs = [pair for one in fitted for pair in _pairs(one, state)]
    _copy(pairs)
    return Loaded(
        file=Path(path) if len(fitted) > 1 else fitted[0].adapter.file,
        loaded=tuple(slot.key for one in fitted for slot in one.sources),
        not_loaded=(),
        prefix=fitted[0].spelled.prefix,
        scale=", ".join(dict.fromkeys(one.scale for one in fitted)),
        rescaled={site: factor for one in fitted for site, factor in one.rescaled.items()},
        converted=Counter((_name(value), _name(live)) for live, value in pairs if value.dtype != live.dtype),
        copies=tuple(copies),
    )


def load_adapters(model: Adapted, plan: Plan, directory: Path | str) -> None:
    """Copy adapters that this plan's were saved as into a model that it was applied to.

    The saved tensors must be the model's to the name and the shape, with the plan's settings and scales; else, or when
    a file cannot be read, raises SurgeryError (E0501, E0519) with nothing copied.
    """
    load_adapter(model, plan, directory, strict=True)


def _files(plan: Plan, path: Path, state: State) -> list[tuple[Path, list[str]]]:
    """The files to read, each with the adapters that it fills."""
    folders = {name: folder for name, folder in adapter_folders(plan, path).items() if name in state}
    if any(folder != path for folder in folders.values()) and all((f / WEIGHTS).exists() for f in folders.values()):
        return [(folder, [name]) for name, folder in folders.items()]
    return [(path, list(state))]


def _shapes(state: State) -> dict[str, dict[str, tuple[int, ...]]]:
    return {name: {key: tuple(tensor.shape) for key, tensor in tensors.items()} for name, tensors in state.items()}


def _copies(adapter: ForeignAdapter, model: Adapted, state: State) -> set[str]:
    """Keys of a PEFT checkpoint that hold a weight of the base model, equal to the model's own to the bit."""
    wanted = {key for tensors in state.values() for key in tensors}
    other = (key for key in adapter.tensors if key not in wanted and key.startswith(MODEL_PREFIX))
    bases = {key: base for key in other if (base := _base_tensor(model, key.removeprefix(MODEL_PREFIX))) is not None}
    if not bases:
        return set()
    with safe_open(adapter.file, framework="pt") as opened:
        return {key for key, base in bases.items() if _equal(opened.get_tensor(key), base)}


def _equal(stored: torch.Tensor, own: torch.Tensor) -> bool:
    return not own.is_meta and stored.dtype == own.dtype and torch.equal(stored, own.detach().cpu())


def _base_tensor(model: Adapted, name: str) -> torch.Tensor | None:
    path, _, last = name.replace(".base_layer.", ".").rpartition(".")
    try:
        module = base_model(model).get_submodule(path)
    except AttributeError:
        return None
    inner = module.get_base_layer() if isinstance(module, BaseTunerLayer) else module
    found = getattr(inner, last, None)
    return found if isinstance(found, torch.Tensor) else None


def _pairs(fitted: Fitted, state: State) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Each live tensor with its values, all read. E0519 for weights that would not be finite in the model."""
    read = {key: (state[name][key], value) for name, values in fitted.read().items() for key, value in values.items()}
    if odd := [f"`{key}`" for key, (live, value) in read.items() if not _is_finite(value, live)]:
        helps = ["has its training diverged? else load it into a model of a wider type, or with a smaller scale"]
        raise SurgeryError(
            unfit(fitted.adapter, [some_of("weights with NaN or infinity in the model's type", odd)], helps)
        )
    return list(read.values())


def _is_finite(value: torch.Tensor, live: torch.Tensor) -> bool:
    if not value.is_floating_point() or not isinstance(live, torch.nn.Parameter):  # a mask is infinite on purpose
        return True
    return bool(value.to(live.dtype).double().isfinite().all())


def _copy(pairs: Iterable[tuple[torch.Tensor, torch.Tensor]]) -> None:
    """Fill the live tensors, or none of them."""
    before: list[tuple[torch.Tensor, torch.Tensor]] = []
    with torch.no_grad():
        try:
            for live, value in pairs:
                before.append((live, live.detach().clone()))
                _fill(live, value)
        except BaseException:
            for live, value in before:
                _fill(live, value)
            raise


def _fill(live: torch.Tensor, value: torch.Tensor) -> None:
    """Give a tensor these values: in place, or where either is on meta, in the same object."""
    if live.is_meta == value.is_meta:
        live.copy_(value)
    else:
        made = value.to(live.dtype)
        is_parameter = isinstance(live, torch.nn.Parameter)
        torch.utils.swap_tensors(live, torch.nn.Parameter(made, live.requires_grad) if is_parameter else made)


def _name(tensor: torch.Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def _no_adapter(adapter: str, known: Iterable[str]) -> Diagnostic:
    return Diagnostic("E0103", f"the plan has no adapter `{adapter}`", helps=(f"it has {listed(known)}",))
