"""Which line of the model's own code is running."""

from __future__ import annotations

import contextlib
import functools
import sys
from pathlib import Path
from types import FrameType

import torch

_HERE = Path(__file__).parent
_TORCH = Path(torch.__file__).parent
# Code that runs between the model's line and the recorder: torch, this package, wrappers of the standard library.
_NOT_THE_MODEL = ("<", f"{_TORCH}/", f"{_HERE}/", contextlib.__file__, functools.__file__)
_NOT_THE_MODEL_EITHER = "/einops/"  # its one-line rearrangements belong to the line that asks for them
# What calls the model: no line further out is the model's.
_CALLERS = (str(_HERE / "capture.py"), str(_HERE / "build.py"))
_TORCH_LAYERS = f"{_TORCH / 'nn' / 'modules'}/"


def calling_place(frame: FrameType | None = None) -> str:
    """`package/file.py:line` of the innermost line of the model's code that is running, from `frame` outwards.

    That is neither torch's nor the recorder's; where a model is made of torch's own layers only, the layer's line.
    """
    frame = frame or sys._getframe(1)
    layer: FrameType | None = None
    while frame is not None and frame.f_code.co_filename not in _CALLERS:
        file = frame.f_code.co_filename
        if name := shown_file(file):
            return f"{name}:{frame.f_lineno}"
        if not layer and file.startswith(_TORCH_LAYERS) and not file.endswith("/module.py"):
            layer = frame
        frame = frame.f_back
    return f"{_file_in_torch(layer.f_code.co_filename)}:{layer.f_lineno}" if layer else ""


def shown_line(filename: str, line: int) -> str:
    """`package/file.py:line`, also of a file of torch."""
    name = shown_file(filename)
    return f"{name or _file_in_torch(filename)}:{line}" if name or filename.startswith(f"{_TORCH}/") else ""


def _file_in_torch(filename: str) -> str:
    """`torch/nn/modules/activation.py`"""
    return Path(filename).relative_to(_TORCH.parent).as_posix()


@functools.cache
def shown_file(filename: str) -> str:
    """The file as evidence names it: below the import path or the current folder; empty for one to pass over."""
    if filename.startswith(_NOT_THE_MODEL) or _NOT_THE_MODEL_EITHER in filename:
        return ""
    file = Path(filename)
    below = [root for entry in sys.path if (root := Path(entry).absolute()) in file.parents]
    return file.relative_to(max(below, key=lambda root: len(root.parts))).as_posix() if below else file.name
