"""Reading and replacing files: a failure is a diagnostic, and a file is never left half-written."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from surgery.diagnostics import Diagnostic, SurgeryError


def read_text(path: Path | str, *, what: str = "file", help: str = "") -> str:
    """The text of a UTF-8 file. Raises SurgeryError: E0501 if it cannot be read, E0002 if it is not text."""
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise SurgeryError(
            Diagnostic(
                "E0501",
                f"cannot read the {what}: {error.strerror or error}",
                place=str(path),
                helps=(help or "check the path; it is taken from the current folder",),
            )
        ) from None
    return decode_text(data, str(path), what=what)


def decode_text(data: bytes, place: str, *, what: str = "file") -> str:
    """The text of UTF-8 bytes read from `place`. Raises SurgeryError (E0002) if they are not text."""
    try:
        text = data.decode("utf-8-sig")
        bad = text.find("\0")
    except UnicodeDecodeError as error:
        text, bad = "", error.start
    if bad >= 0:
        raise SurgeryError(
            Diagnostic(
                "E0002",
                f"the {what} is not UTF-8 text (byte {bad})",
                place=place,
                helps=("save it as UTF-8, or check that this is the file you meant",),
            )
        )
    return text.replace("\r\n", "\n").replace("\r", "\n")


def replace_file(path: Path | str, data: str | bytes) -> None:
    """Write a file in one step: into a temporary file beside it, then over it. Raises SurgeryError (E0514).

    A link stays one, to the new content, and a file that is there keeps its mode.
    """
    given, path = path, Path(os.path.realpath(path))
    raw = data.encode("utf-8") if isinstance(data, str) else data
    temporary = ""
    try:
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        with os.fdopen(handle, "wb") as file:
            file.write(raw)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, _mode(path))
        os.replace(temporary, path)
    except OSError as error:
        if temporary and os.path.exists(temporary):
            os.unlink(temporary)
        raise SurgeryError(
            Diagnostic(
                "E0514",
                f"cannot write the file: {error.strerror or error}",
                place=str(given),
                helps=("check that the folder exists and that you may write to it",),
            )
        ) from None


def _mode(path: Path) -> int:
    """The permissions of a file, or those that a new one gets."""
    if path.exists():
        return path.stat().st_mode & 0o777
    mask = os.umask(0)
    os.umask(mask)
    return 0o666 & ~mask
