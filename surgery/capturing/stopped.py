"""Where the model's own code stopped."""

from __future__ import annotations

from surgery.capturing.places import shown_file


def stopped_at(error: BaseException) -> str | None:
    """`file.py:line` of the deepest frame of the model's own code in an error's traceback."""
    place, trace = None, error.__traceback__
    while trace:
        if name := shown_file(trace.tb_frame.f_code.co_filename):
            place = f"{name}:{trace.tb_lineno}"
        trace = trace.tb_next
    return place
