"""torch: its own transformer, whose layers read their children's parameters on a path without gradients."""

from __future__ import annotations

import torch
from torch import nn

from architectures.registry import Built, architecture


@architecture("torch/transformer_encoder")
def transformer_encoder() -> Built:
    """torch/nn/modules/transformer.py: post-norm and batch first, as the fast path asks, called with a padding mask."""
    layer = nn.TransformerEncoderLayer(48, nhead=4, dim_feedforward=80, batch_first=True)
    padding = torch.arange(13) >= torch.tensor([[13], [9]])
    model = nn.TransformerEncoder(layer, num_layers=3, norm=nn.LayerNorm(48))
    return model.eval(), {"src": torch.randn(2, 13, 48), "src_key_padding_mask": padding}
