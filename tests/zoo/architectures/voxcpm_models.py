"""VoxCPM: the language model over embedded tokens and the local diffusion transformer over its states."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from architectures.registry import Built, architecture

if TYPE_CHECKING:
    from voxcpm.modules.minicpm4 import MiniCPM4Config


def _config(vocab_size: int) -> MiniCPM4Config:
    """MiniCPM4 with two layers of hidden size 64, four heads over two key-value heads."""
    from voxcpm.modules.minicpm4 import MiniCPM4Config

    frequencies = [1.0] * 8  # half of the head's 16
    return MiniCPM4Config(
        bos_token_id=1,
        eos_token_id=2,
        hidden_size=64,
        intermediate_size=112,
        max_position_embeddings=128,
        num_attention_heads=4,
        num_hidden_layers=2,
        num_key_value_heads=2,
        rms_norm_eps=1e-5,
        rope_theta=1e4,
        rope_scaling={
            "type": "longrope",
            "long_factor": frequencies,
            "short_factor": frequencies,
            "original_max_position_embeddings": 128,
        },
        vocab_size=vocab_size,
        scale_emb=1,
        dim_model_base=64,
        scale_depth=1.0,
    )


@architecture("voxcpm/language_model")
def language_model() -> Built:
    """voxcpm/modules/minicpm4/model.py: the token table is VoxCPM's to look up in; the forward takes its vectors."""
    from voxcpm.modules.minicpm4 import MiniCPMModel

    return MiniCPMModel(_config(vocab_size=90)).eval(), {"inputs_embeds": torch.randn(2, 12, 64), "is_causal": True}


@architecture("voxcpm/local_dit")
def local_dit() -> Built:
    """voxcpm/modules/locdit/local_dit.py: latents (2, 16, 5) after one state (2, 64) and a prefix (2, 16, 3)."""
    from voxcpm.modules.locdit import VoxCPMLocDiT

    example = {
        "x": torch.randn(2, 16, 5),
        "mu": torch.randn(2, 64),
        "t": torch.rand(2),
        "cond": torch.randn(2, 16, 3),
        "dt": torch.rand(2),
    }
    return VoxCPMLocDiT(_config(vocab_size=0), in_channels=16).eval(), example
