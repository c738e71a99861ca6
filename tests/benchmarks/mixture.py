"""A mixture of experts written with one module for each linear, as checkpoints before fused experts have it."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F


class Expert(nn.Module):
    """A gated feed-forward, three linears."""

    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(width, inner, bias=False)
        self.up_proj = nn.Linear(width, inner, bias=False)
        self.down_proj = nn.Linear(inner, width, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


class Experts(nn.Module):
    """A router picks `picks` of the experts for each token; each expert runs on its tokens (arXiv 2101.03961)."""

    def __init__(self, width: int, inner: int, experts: int, picks: int) -> None:
        super().__init__()
        self.router = nn.Linear(width, experts, bias=False)
        self.experts = nn.ModuleList(Expert(width, inner) for _ in range(experts))
        self.picks = picks

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        tokens = x.flatten(0, 1)
        weights, picked = torch.topk(self.router(tokens).softmax(dim=-1), self.picks, dim=-1)
        out = torch.zeros_like(tokens)
        mask = F.one_hot(picked, len(self.experts)).permute(2, 1, 0)
        for expert in mask.sum(dim=(-1, -2)).nonzero().flatten().tolist():
            rank, token = torch.where(mask[expert])
            out.index_add_(0, token, self.experts[expert](tokens[token]) * weights[token, rank, None])
        return out.view_as(x)


class Block(nn.Module):
    """Attention and experts, pre-norm."""

    def __init__(self, width: int, inner: int, experts: int, picks: int, heads: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.RMSNorm(width), nn.RMSNorm(width)
        self.q_proj, self.k_proj, self.v_proj, self.o_proj = (nn.Linear(width, width, bias=False) for _ in range(4))
        self.mlp = Experts(width, inner, experts, picks)
        self.heads = heads

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.norm1(x)
        q, k, v = (
            proj(y).unflatten(-1, (self.heads, -1)).transpose(1, 2) for proj in (self.q_proj, self.k_proj, self.v_proj)
        )
        x = x + self.o_proj(F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).flatten(2))
        return x + self.mlp(self.norm2(x))


class Mixture(nn.Module):
    """A causal language model: (batch, tokens) ids to logits. The default sizes are those of a 671 B model."""

    def __init__(
        self,
        blocks: int = 61,
        experts: int = 256,
        width: int = 7168,
        inner: int = 2048,
        picks: int = 8,
        heads: int = 64,
        vocabulary: int = 129280,
    ) -> None:
        super().__init__()
        self.embed = nn.Embedding(vocabulary, width)
        self.layers = nn.ModuleList(Block(width, inner, experts, picks, heads) for _ in range(blocks))
        self.norm = nn.RMSNorm(width)
        self.head = nn.Linear(width, vocabulary, bias=False)

    def forward(self, input_ids: torch.Tensor) -> torch.Tensor:
        x = self.embed(input_ids)
        for layer in self.layers:
            x = layer(x)
        return self.head(self.norm(x))
