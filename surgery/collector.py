"""Python's garbage collector, out of the way of what makes many objects and drops few."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def paused_collector() -> Iterator[None]:
    """No collections for the length of a capture, of reading a graph or of planning on it.

    They make hundreds of thousands of objects; looking through all of these again and again takes a quarter of the
    time on a large model.
    """
    if not gc.isenabled():
        yield
        return
    try:
        gc.disable()  # inside, for an interrupt may come right after it
        yield
    finally:
        gc.enable()
