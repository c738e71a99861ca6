"""Loading a base checkpoint into a bare model."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from surgery.diagnostics import Diagnostic, SurgeryError

_SHOWN = 8


def load_weights(model: torch.nn.Module, path: Path | str) -> None:
    """Load a safetensors file into `model`, its keys and shapes an exact match.

    A key may be missing if another of the same storage (a tied weight) is there, and a buffer that the model makes
    for itself (a table of positions) may be in the file: older versions saved them. Raises SurgeryError: E0501 if
    the file cannot be read, E0517 with the difference; then nothing was loaded.
    """
    try:
        loaded = load_file(path)
    except (OSError, SafetensorError) as error:
        help = "give a .safetensors file; other formats are not read, because they may run code"
        raise SurgeryError(
            Diagnostic("E0501", f"cannot read the weights: {error}", place=str(path), helps=(help,))
        ) from None
    own = model.state_dict()
    by_storage: dict[int, set[str]] = {}
    for key, tensor in own.items():
        by_storage.setdefault(tensor.untyped_storage()._cdata, set()).add(key)
    covered = {alias for keys in by_storage.values() if keys & loaded.keys() for alias in keys}
    difference = {
        "missing": sorted(own.keys() - covered),
        "unexpected": sorted(loaded.keys() - own.keys() - dict(model.named_buffers()).keys()),
        "of another shape": [
            f"{key} {list(loaded[key].shape)} for {list(own[key].shape)}"
            for key in sorted(own.keys() & loaded.keys())
            if own[key].shape != loaded[key].shape
        ],
    }
    notes = tuple(f"{len(keys)} {what}: {_first(keys)}" for what, keys in difference.items() if keys)
    if notes:
        help = "give the checkpoint of this very model, its keys without a prefix"
        raise SurgeryError(
            Diagnostic("E0517", "the weights do not fit the model", place=str(path), notes=notes, helps=(help,))
        )
    model.load_state_dict(loaded, strict=False)


def _first(keys: list[str]) -> str:
    return ", ".join(keys[:_SHOWN]) + (f", and {len(keys) - _SHOWN} more" if len(keys) > _SHOWN else "")
