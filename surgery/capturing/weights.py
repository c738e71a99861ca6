"""Whether a checkpoint fits a model, and loading it into one."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open

from surgery.capturing.checkpoint import Checkpoint, StoredTensor, read_checkpoint
from surgery.capturing.key_mapping import MappedKeys, map_keys
from surgery.capturing.likely_names import likely_mapping
from surgery.diagnostics import Diagnostic, SurgeryError
from surgery.language import tree
from surgery.planning.grouping import group_paths
from surgery.planning.words import counted

_SHOWN = 8
_NUMBER = re.compile(r"(?<![^.])[0-9]+(?![^.])")  # a segment of its own


def load_weights(model: torch.nn.Module, sources: Path | Sequence[Path], weights: tree.Weights | None = None) -> None:
    """Load a checkpoint into `model`: `sources` as `read_checkpoint` takes them, compared as `fit_weights` does.

    Values are converted to the types of the model. Raises SurgeryError (E0501, E0517, E0518); then nothing was loaded.
    """
    fit = fit_weights(model, read_checkpoint(sources), weights)
    loaded: dict[str, torch.Tensor] = {}
    try:
        for file in dict.fromkeys(tensor.file for tensor in fit.tensors.values()):
            with safe_open(file, framework="pt") as opened:
                loaded |= {name: opened.get_tensor(t.key) for name, t in fit.tensors.items() if t.file == file}
    except (OSError, SafetensorError) as error:
        help = "give a .safetensors file that `safetensors` itself can read"
        raise SurgeryError(
            Diagnostic("E0501", f"cannot read the weights: {error}", place=str(file), helps=(help,))
        ) from None
    model.load_state_dict(loaded, strict=False)


@dataclass(frozen=True)
class Fit:
    """A checkpoint that fits a model; `str()` puts it into a few lines.

    `tensors` are what is loaded, by the model's names; `tied` counts the keys that are not there but share the storage
    of one that is, `ignored` the keys that fitted each pattern, `converted` those stored in another type than the
    model has, by the two types.
    """

    checkpoint: Checkpoint
    tensors: dict[str, StoredTensor]
    tied: int
    ignored: dict[str, int]
    converted: dict[tuple[str, str], int]

    def __str__(self) -> str:
        tied = f" and {self.tied:,} tied to these" if self.tied else ""
        renamed = sum(name != tensor.key for name, tensor in self.tensors.items())
        mapped = f", {renamed:,} renamed" if renamed else ""
        lines = [f"weights: all fit, {counted(len(self.tensors), 'key')}{tied}{mapped}, from {self.checkpoint.name}"]
        if self.ignored:
            lines.append("ignored: " + ", ".join(f"{pattern} {count:,}" for pattern, count in self.ignored.items()))
        if self.converted:
            types = (f"{count:,} from {stored} to {own}" for (stored, own), count in self.converted.items())
            lines.append("converted: " + ", ".join(types))
        return "\n".join(lines)


def fit_weights(model: torch.nn.Module, checkpoint: Checkpoint, weights: tree.Weights | None = None) -> Fit:
    """Compare the keys, shapes and types of a checkpoint with those of a model, which may be on fake tensors.

    `weights` maps the keys first. A key may be missing if another of the same storage (a tied weight) is there, and a
    buffer that the model makes for itself (a table of positions) may be in the file: older versions saved them. Types
    fit if both are floats, complex, or neither. Raises SurgeryError: E0518 for a mapping that does not fit the
    checkpoint, else E0517 with all that differs.
    """
    compared = _Comparison(model, checkpoint, weights)
    compared.raise_differences()
    found = compared.found
    types = Counter((tensor.dtype, _dtype(compared.own[key])) for key, tensor in found.items())
    converted = {pair: count for pair, count in types.items() if pair[0] != pair[1]}
    return Fit(checkpoint, found, len(compared.own) - len(found), compared.mapped.ignored, converted)


class _Comparison:
    """The keys of a model beside those of a checkpoint."""

    def __init__(self, model: torch.nn.Module, checkpoint: Checkpoint, weights: tree.Weights | None) -> None:
        self.checkpoint = checkpoint
        self.weights = weights
        self.own = {
            key: value for key, value in model.state_dict(keep_vars=True).items() if isinstance(value, torch.Tensor)
        }
        self.takes = {**dict(model.named_buffers()), **self.own}  # with the buffers that are never saved
        self.mapped: MappedKeys = map_keys(checkpoint, weights, self.takes.keys())
        self.found = {key: self.mapped.tensors[key] for key in self.own if key in self.mapped.tensors}

    @cached_property
    def _aliases(self) -> dict[str, set[str]]:
        """For each key those whose values lie in the same place of the same storage, itself among them."""
        places: dict[tuple[int, int, int], set[str]] = {}
        for key, tensor in self.own.items():
            place = (tensor.untyped_storage()._cdata, int(tensor.storage_offset()), tensor.numel())
            places.setdefault(place, set()).add(key)
        return {key: keys for keys in places.values() for key in keys}

    def missing(self, found: Collection[str]) -> list[str]:
        """The model's keys that are not found, and not tied to one that is."""
        return [key for key in self.own if not any(alias in found for alias in self._aliases[key])]

    def raise_differences(self) -> None:
        """E0517 with the keys that are missing, unexpected, and of another shape or type."""
        pairs = [(key, stored, self.own[key]) for key, stored in self.found.items()]
        shapes = [f"{key} {[*t.shape]} for {[*own.shape]}" for key, t, own in pairs if t.shape != tuple(own.shape)]
        types = [f"{key} {t.dtype} for {_dtype(own)}" for key, t, own in pairs if _sort(t.dtype) != _sort(_dtype(own))]
        notes = [
            _keys_note("missing", self.missing(self.found)),
            _keys_note("unexpected", [t.key for name, t in self.mapped.tensors.items() if name not in self.takes]),
            _note("of another shape", shapes),
            _note("of another type", types),
        ]
        if any(notes):
            help = "other shapes mean other settings: compare the spec's `model` with the config of the checkpoint"
            helps = [*self._mapping_help(), *([help] if shapes else [])] or ["give the checkpoint of this very model"]
            message = "the weights do not fit the model"
            place = self.checkpoint.name
            kept = tuple(filter(None, notes))
            raise SurgeryError(Diagnostic("E0517", message, place=place, notes=kept, helps=tuple(helps)))

    def _mapping_help(self) -> Iterator[str]:
        """The mapping of the keys that the spec does not map yet which would make most of them fit."""
        renamed = {name for name, tensor in self.found.items() if tensor.key != name}
        free = {t.key: (_sort(t.dtype), *t.shape) for name, t in self.mapped.tensors.items() if t.key == name}
        open = {name: (_sort(_dtype(t)), *t.shape) for name, t in self.takes.items() if name not in renamed}
        likely = likely_mapping(free, open, lambda found: not self.missing({*renamed, *found}))
        if likely is None:
            return
        fitting = len(self.own.keys() & (renamed | likely.fitting))
        where = f"add to `weights`: `{likely}`" if self.weights else f"say so in the spec: `weights {{ {likely} }}`"
        needed = f"{fitting:,}" if self.missing({*renamed, *likely.fitting}) else "all"
        yield f"{where}; then {needed} of the model's {counted(len(self.own), 'key')} fit"


def _keys_note(what: str, keys: Sequence[str]) -> str:
    """The keys with those in one place of several blocks as one: `layers.[0:32].mlp.up_proj.weight`."""
    alike: dict[str, list[str]] = {}
    for key in keys:
        alike.setdefault(_NUMBER.sub("*", key), []).append(key)
    groups = [group for members in alike.values() for group in group_paths(members)]
    more = sum(map(len, groups[_SHOWN:]))
    shown = ", ".join(map(str, groups[:_SHOWN])) + (f", and {more:,} more" if more else "")
    return f"{len(keys):,} {what}: {shown}" if keys else ""


def _note(what: str, lines: Sequence[str]) -> str:
    more = f", and {len(lines) - _SHOWN:,} more" if len(lines) > _SHOWN else ""
    return f"{len(lines):,} {what}: {', '.join(lines[:_SHOWN])}{more}" if lines else ""


def _dtype(tensor: torch.Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def _sort(dtype: str) -> str:
    """Between types of one sort a value is converted; between others it would be misread, as quantised weights are."""
    return next((sort for sort in ("float", "complex") if sort in dtype), "whole")
