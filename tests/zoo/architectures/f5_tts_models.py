"""F5-TTS: its three backbones, called with mel frames, text ids and a time per sample, without a mask or a cache."""

from __future__ import annotations

from typing import Any

import torch

from architectures.registry import Built, architecture

DIM = 48  # the convolutional position embedding works in 16 groups
ATTENTION = {"heads": 4, "dim_head": 8}


def _example_call() -> dict[str, Any]:
    """Keywords of a call: noised and condition mel (2, 64, 100), text ids (2, 20), time (2,)."""
    return {
        "x": torch.randn(2, 64, 100),
        "cond": torch.randn(2, 64, 100),
        "text": torch.randint(0, 10, (2, 20)),
        "time": torch.rand(2),
    }


@architecture("f5_tts/dit")
def dit() -> Built:
    """f5_tts/model/backbones/dit.py"""
    from f5_tts.model import DiT

    return DiT(dim=DIM, depth=3, ff_mult=3, text_dim=36, conv_layers=2, **ATTENTION).eval(), _example_call()


@architecture("f5_tts/unett")
def unett() -> Built:
    """f5_tts/model/backbones/unett.py: rotary positions on one head, written in place, as E2-TTS is released."""
    from f5_tts.model import UNetT

    model = UNetT(dim=DIM, depth=4, ff_mult=3, text_dim=36, text_mask_padding=False, pe_attn_head=1, **ATTENTION)
    return model.eval(), _example_call()


@architecture("f5_tts/mmdit")
def mmdit() -> Built:
    """f5_tts/model/backbones/mmdit.py: with norms of queries and keys; the last block drops the text stream."""
    from f5_tts.model import MMDiT

    return MMDiT(dim=DIM, depth=3, ff_mult=3, qk_norm="rms_norm", **ATTENTION).eval(), _example_call()
