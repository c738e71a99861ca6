"""The two mel scales that `vocos.heads` imports: only its `IMDCTSymExpHead`, given a sample rate, calls them."""

from __future__ import annotations


def _hz_to_mel(freq: float, mel_scale: str = "htk") -> float:
    raise ImportError("torchaudio is not installed: mel scales cannot be computed")


def _mel_to_hz(mels: object, mel_scale: str = "htk") -> object:
    raise ImportError("torchaudio is not installed: mel scales cannot be computed")
