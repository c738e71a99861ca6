"""Replacing a whole folder: readers see the old one or the new one, never half of it."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError

from surgery.diagnostics import Diagnostic, SurgeryError

_EXPORTED = ("adapter_config.json", "adapter_model.safetensors", "model.safetensors")


@contextmanager
def replaced_folder(folder: Path) -> Iterator[Path]:
    """A temporary sibling to write into; it takes the folder's place when the block ends, and is removed if it fails.

    Missing parents are made. Raises SurgeryError (E0514) where the file system refuses, and for a path that is a
    file or a folder of something else: only an empty folder, or one that holds nothing but an export, is replaced. Of a
    link, the folder that it leads to.
    """
    try:
        folder = folder.resolve() if folder.is_symlink() else folder
        _check_replaceable(folder)
        folder.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}."))
        try:
            os.chmod(temporary, 0o777 & ~_umask())
            yield temporary
            _swap(temporary, folder)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    except (OSError, SafetensorError) as error:  # safetensors has its own for a full disk
        raise SurgeryError(_cannot(folder, getattr(error, "strerror", None) or str(error))) from None


def _check_replaceable(folder: Path) -> None:
    if not folder.exists():
        return
    if not folder.is_dir():
        raise SurgeryError(_cannot(folder, "it is a file"))
    if not all(_is_exported(entry) for entry in folder.iterdir()):
        raise SurgeryError(_cannot(folder, "it holds other files, and would be replaced"))


def _is_exported(entry: Path) -> bool:
    """A file of an export, or the folder of one of several adapters."""
    if entry.is_dir():
        return any(entry.iterdir()) and all(inner.name in _EXPORTED for inner in entry.iterdir())
    return entry.name in _EXPORTED


def _swap(temporary: Path, folder: Path) -> None:
    if not folder.exists():
        temporary.rename(folder)
        return
    # A folder cannot be renamed over a full one: move the old one aside first, and back if that fails.
    aside = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}.old."))
    try:
        folder.rename(aside / "old")
        temporary.rename(folder)
    except BaseException:  # an interrupt would lose both
        if not folder.exists():
            (aside / "old").rename(folder)
        raise
    finally:
        if folder.exists():
            shutil.rmtree(aside, ignore_errors=True)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _cannot(folder: Path, why: str) -> Diagnostic:
    return Diagnostic(
        "E0514", f"cannot write the folder: {why}", place=str(folder), helps=("choose a folder that does not exist",)
    )
