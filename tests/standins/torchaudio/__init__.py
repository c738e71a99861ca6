"""Stands in for torchaudio, which has no CPU build here: F5-TTS and VoxCPM import it at the top of their modules.

Only their audio front ends use it, at run time. No test calls these names: what is captured, adapted and
trained takes mel frames and codes, which the real packages' own model code turns into outputs.
"""

from __future__ import annotations


class transforms:  # noqa: N801 - a submodule in the real package
    """Named at import time, never built."""

    class MelSpectrogram:
        def __init__(self, **_: object) -> None:
            raise ImportError("torchaudio is not installed: audio front ends cannot run")

    class Resample(MelSpectrogram):
        pass
