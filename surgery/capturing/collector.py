"""Python's garbage collector, out of the way of a capture."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def paused_collector() -> Iterator[None]:
    """No collections for the length of a capture: it makes hundreds of thousands of objects and drops few of them.

    Looking through them all again and again takes a quarter of the time of a large model's capture.
    """
    if not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
