"""An adapter from elsewhere as data: the header of its safetensors file and what was written beside it.

Formats as their own writers make them: a PEFT directory (`peft.PeftModel.save_pretrained`), a diffusers file
(`diffusers/loaders/lora_base.py`), kohya's and LyCORIS' files, VoxCPM's folder (`voxcpm/core.py`), bare safetensors.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from surgery.diagnostics import Diagnostic, SurgeryError
from surgery.files import read_text

PEFT_CONFIG = "adapter_config.json"
VOXCPM_CONFIG = "lora_config.json"
_DIFFUSERS_CONFIG = "lora_adapter_metadata"  # the key of the safetensors metadata
# The names that writers give their file in a folder, each with the file that says its settings.
_NAMED = {
    "adapter_model.safetensors": PEFT_CONFIG,
    "lora_weights.safetensors": VOXCPM_CONFIG,
    "pytorch_lora_weights.safetensors": "",
}
_PICKLED = (".bin", ".ckpt", ".pkl", ".pt", ".pth")


@dataclass(frozen=True)
class ForeignTensor:
    """A tensor as the header describes it; `dtype` as safetensors names it (`BF16`)."""

    shape: tuple[int, ...]
    dtype: str

    @property
    def is_float(self) -> bool:
        return self.dtype.startswith(("F", "BF"))


@dataclass(frozen=True)
class Declared:
    """Settings that stand beside the tensors, under PEFT's names; `source` says where, for people."""

    source: str
    values: Mapping[str, Any]


@dataclass(frozen=True)
class ForeignAdapter:
    """The tensors of one file by their keys, and the settings declared with them. No value has been read."""

    file: Path
    tensors: Mapping[str, ForeignTensor]
    declared: Declared | None


def read_adapter(path: Path | str) -> ForeignAdapter:
    """The adapter in a safetensors file, or in a folder that PEFT, diffusers, VoxCPM or nobody in particular wrote.

    Only the header and the settings are read. Raises SurgeryError: E0501 for what cannot be read, a pickled file (it
    may run code), or a folder of several adapters; E0002 for settings that are not text.
    """
    file = _file_of(Path(path))
    if file.suffix in _PICKLED:
        raise SurgeryError(_pickled(file))
    try:
        with safe_open(file, framework="numpy") as opened:
            metadata = opened.metadata() or {}
            keys: list[str] = opened.keys()
            slices = {key: opened.get_slice(key) for key in keys}
            tensors = {key: ForeignTensor(tuple(s.get_shape()), s.get_dtype()) for key, s in slices.items()}
    except (OSError, SafetensorError) as error:
        why = getattr(error, "strerror", None) or ("there is no such file" if not file.exists() else str(error))
        raise SurgeryError(_unreadable(file, why)) from None
    return ForeignAdapter(file, tensors, _declared(file, metadata))


def _file_of(path: Path) -> Path:
    if not path.is_dir():
        return path
    for name in _NAMED:
        if (path / name).exists():
            return path / name
    files = sorted(path.glob("*.safetensors"))
    if len(files) == 1:
        return files[0]
    if files:
        names = ", ".join(file.name for file in files)
        raise SurgeryError(_unreadable(path, f"the folder has several files, {names}", "give the one you mean"))
    pickled = sorted(file for file in path.iterdir() if file.suffix in _PICKLED)
    if pickled:
        raise SurgeryError(_pickled(pickled[0]))
    return path / next(iter(_NAMED))


def _declared(file: Path, metadata: Mapping[str, str]) -> Declared | None:
    beside = file.with_name(_NAMED.get(file.name) or PEFT_CONFIG)
    if file.name in _NAMED and beside.exists():
        values = _json(read_text(beside, what="settings of the adapter"), str(beside))
        if beside.name == VOXCPM_CONFIG:
            settings = _object(values.get("lora_config", values), str(beside))
            values = {"peft_type": "LORA", "r": settings.get("r"), "lora_alpha": settings.get("alpha")}
        return Declared(beside.name, values) if values else None
    if _DIFFUSERS_CONFIG in metadata:
        values = _json(metadata[_DIFFUSERS_CONFIG], f"{file}, its metadata")
        return Declared(f"its metadata `{_DIFFUSERS_CONFIG}`", values) if values else None
    return None


def _json(text: str, place: str) -> dict[str, Any]:
    try:
        values = json.loads(text)
    except (ValueError, RecursionError):
        values = None
    return _object(values, place)


def _object(values: object, place: str) -> dict[str, Any]:
    if not isinstance(values, dict):
        raise SurgeryError(
            Diagnostic(
                "E0501",
                "the settings of the adapter are no JSON object",
                place=place,
                helps=("download or copy it again",),
            )
        )
    return values


def _unreadable(
    path: Path, why: str, help: str = "give a .safetensors file, or the folder that holds one"
) -> Diagnostic:
    return Diagnostic("E0501", f"cannot read the adapter: {why}", place=str(path), helps=(help,))


def _pickled(file: Path) -> Diagnostic:
    convert = "safetensors.torch.save_file(torch.load(FILE, weights_only=True), 'adapter_model.safetensors')"
    return _unreadable(
        file,
        "it is a pickled file, and reading one may run code",
        f"convert it where you trust it, `{convert}`, and give that file",
    )
