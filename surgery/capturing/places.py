"""Which line of the model's own code is running."""

from __future__ import annotations

import os
import sys
from functools import lru_cache

import torch

_TORCH = os.path.dirname(torch.__file__) + os.sep
_HERE = os.path.dirname(__file__) + os.sep
_NOT_THE_MODEL = ("<", _TORCH, _HERE, os.path.dirname(os.__file__) + os.sep + "contextlib", os.__file__[:-5] + "functools")


def calling_place() -> str:
    """`package/file.py:line` of the innermost frame that is neither torch's nor the recorder's."""
    frame = sys._getframe(1)
    while frame is not None:
        name = shown_file(frame.f_code.co_filename)
        if name:
            return f"{name}:{frame.f_lineno}"
        frame = frame.f_back  # type: ignore[assignment]
    return ""


@lru_cache(maxsize=None)
def shown_file(filename: str) -> str:
    """The file as evidence names it: below the import path or the current folder; empty for one to pass over."""
    if filename.startswith(_NOT_THE_MODEL):
        return ""
    roots = [os.path.abspath(entry or os.curdir) for entry in sys.path]
    below = [root for root in roots if filename.startswith(root + os.sep)]
    if not below:
        return os.path.basename(filename)
    return os.path.relpath(filename, max(below, key=len)).replace(os.sep, "/")
