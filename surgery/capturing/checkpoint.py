"""What a checkpoint holds, from the headers of its safetensors files: no weight is read.

The format: 8 bytes, little-endian, the length of a JSON object; that object, `{key: {dtype, shape, data_offsets}}`
with an optional `__metadata__`; then the data, whose last offset is the end of the file
(https://huggingface.co/docs/safetensors).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from surgery.diagnostics import Diagnostic, SurgeryError
from surgery.files import read_text

INDEX = ".safetensors.index.json"
_LONGEST_HEADER = 100_000_000  # bytes; safetensors itself refuses longer ones
_ONLY = "give a .safetensors file; other formats are not read, because they may run code"
# safetensors' names of types in torch's words; others are shown as the file has them.
_DTYPES = {
    **{f"F{bits}": f"float{bits}" for bits in (16, 32, 64)},
    **{f"I{bits}": f"int{bits}" for bits in (8, 16, 32, 64)},
    **{f"U{bits}": f"uint{bits}" for bits in (8, 16, 32, 64)},
    "BF16": "bfloat16",
    "F8_E4M3": "float8_e4m3fn",
    "F8_E5M2": "float8_e5m2",
    "C64": "complex64",
    "BOOL": "bool",
}


@dataclass(frozen=True)
class StoredTensor:
    """A tensor as the header of its file describes it; `dtype` in torch's words (`bfloat16`)."""

    key: str
    file: Path
    dtype: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Checkpoint:
    """The tensors of one or several files; `name` says which, for people."""

    name: str
    tensors: tuple[StoredTensor, ...]


def read_checkpoint(sources: Path | str | Sequence[Path | str]) -> Checkpoint:
    """The tensors of safetensors files: each source is one, a folder of them, or the index of shards (`INDEX`).

    Raises SurgeryError: E0501 for what cannot be read, is no safetensors file, or was cut short; E0002 for an index
    that is not text.
    """
    paths = [Path(sources)] if isinstance(sources, (str, Path)) else [Path(source) for source in sources]
    files = dict.fromkeys(file for path in paths for file in _files(path))
    tensors = tuple(tensor for file in files for tensor in _header(file))
    name = str(paths[0]) + (f" and {len(paths) - 1} more" if len(paths) > 1 else "")
    return Checkpoint(name, tensors)


def _files(source: Path) -> Iterable[Path]:
    if source.name.endswith(INDEX):
        return _indexed(source)
    if not source.is_dir():
        return (source,)
    indices = sorted(source.glob(f"*{INDEX}"))
    if len(indices) > 1:
        names = ", ".join(index.name for index in indices)
        raise _unreadable(source, f"the folder has several indices, {names}", "give the one you mean")
    files = _indexed(indices[0]) if indices else sorted(source.glob("*.safetensors"))
    if not files:
        raise _unreadable(source, "the folder has no .safetensors file", _ONLY)
    return files


def _indexed(index: Path) -> list[Path]:
    try:
        shards = json.loads(read_text(index, what="index of the weights"))["weight_map"].values()
        return [index.parent / name for name in dict.fromkeys(shards)]
    except (ValueError, KeyError, TypeError, AttributeError):
        raise _unreadable(index, "it is no index of safetensors files", _ONLY) from None


def _header(file: Path) -> tuple[StoredTensor, ...]:
    try:
        with file.open("rb") as opened:
            length = int.from_bytes(opened.read(8), "little")
            entries = json.loads(opened.read(length) if length <= _LONGEST_HEADER else b"")
        size = file.stat().st_size
        entries.pop("__metadata__", None)
        tensors = tuple(_stored(key, file, entry) for key, entry in entries.items())
        described = 8 + length + max((int(entry["data_offsets"][1]) for entry in entries.values()), default=0)
    except OSError as error:
        raise _unreadable(file, error.strerror or str(error), _ONLY) from None
    except (ValueError, LookupError, TypeError, AttributeError):
        raise _unreadable(file, "it is no safetensors file", _ONLY) from None
    if described != size:
        why = f"it has {size:,} bytes where its header describes {described:,}"
        raise _unreadable(file, why, "download or copy it again: it may have been cut short")
    return tensors


def _stored(key: str, file: Path, entry: dict[str, Any]) -> StoredTensor:
    return StoredTensor(key, file, _DTYPES.get(entry["dtype"], entry["dtype"]), tuple(map(int, entry["shape"])))


def _unreadable(path: Path, why: str, help: str) -> SurgeryError:
    return SurgeryError(Diagnostic("E0501", f"cannot read the weights: {why}", place=str(path), helps=(help,)))
