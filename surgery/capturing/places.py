"""Which line of the model's own code is running."""

from __future__ import annotations

import contextlib
import functools
import sys
from pathlib import Path
from types import FrameType

import torch

# Code that runs between the model's line and the recorder: torch, this package, wrappers of the standard library.
_NOT_THE_MODEL = (
    "<",
    str(Path(torch.__file__).parent) + "/",
    str(Path(__file__).parent) + "/",
    contextlib.__file__,
    functools.__file__,
)


def calling_place() -> str:
    """`package/file.py:line` of the innermost frame that is neither torch's nor the recorder's."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        if name := shown_file(frame.f_code.co_filename):
            return f"{name}:{frame.f_lineno}"
        frame = frame.f_back
    return ""


@functools.cache
def shown_file(filename: str) -> str:
    """The file as evidence names it: below the import path or the current folder; empty for one to pass over."""
    if filename.startswith(_NOT_THE_MODEL):
        return ""
    file = Path(filename)
    below = [root for entry in sys.path if (root := Path(entry).absolute()) in file.parents]
    return file.relative_to(max(below, key=lambda root: len(root.parts))).as_posix() if below else file.name
