"""Mutations of F5-TTS's DiT: its attentions and feed-forwards, and what a call reaches."""

from __future__ import annotations

from mutations.case import GAINED, LOST, Citation, Edit, maybe_called, mutation, not_called

MODULES = "f5_tts.model.modules"
DIT = "f5_tts.model.backbones.dit"
CONVOLUTION = "input_embed.conv_pos_embed.conv1d"

mutation(
    "f5_tts",
    "norm replaced by an identity",
    Edit(
        MODULES,
        """
            self.ff_norm = nn.LayerNorm(dim, elementwise_affine=False, eps=1e-6)
        """,
        """
            self.ff_norm = nn.Identity()
        """,
    ),
    changes={"transformer_blocks.*.ff_norm": {"kind": ("LayerNorm", "Identity"), "role norm": LOST}},
)

mutation(
    "f5_tts",
    "query and key swapped",
    Edit(MODULES, "query = attn.to_q(x)", "query = attn.to_k(x)", times=2),
    Edit(MODULES, "key = attn.to_k(x)", "key = attn.to_q(x)", times=2),
    changes={
        "transformer_blocks.*.attn.to_q": {"role attention_query": LOST, "role attention_key": GAINED},
        "transformer_blocks.*.attn.to_k": {"role attention_key": LOST, "role attention_query": GAINED},
    },
)

mutation(
    "f5_tts",
    "residual add removed",
    Edit(MODULES, "x = x + gate_mlp.unsqueeze(1) * ff_output", "x = gate_mlp.unsqueeze(1) * ff_output"),
    changes={
        "transformer_blocks.*.ff.ff.0.0": {"role feedforward_in": LOST},
        "transformer_blocks.*.ff.ff.2": {"role feedforward_out": LOST, "role residual_output": LOST},
    },
)

mutation(
    "f5_tts",
    "output projection read directly",
    Edit(
        MODULES,
        "x = attn.to_out[0](x)",
        "x = F.linear(x, attn.to_out[0].weight, attn.to_out[0].bias)",
        times=2,
    ),
    changes={"transformer_blocks.*.attn.to_out.0": {"calls": ("1", "0"), "bypassed": GAINED}},
    cites=(Citation("transformer_blocks.0.attn.to_out.0", "bypassed", "F.linear(x, attn.to_out[0].weight"),),
)

mutation(
    "f5_tts",
    "output projection read directly where there is a mask",
    Edit(
        MODULES,
        "x = attn.to_out[0](x)",
        "x = attn.to_out[0](x) if mask is None else F.linear(x, attn.to_out[0].weight)",
        times=2,
    ),
    changes={"transformer_blocks.*.attn.to_out.0": {"bypassed": ("no", "unknown")}},
    cites=(Citation("transformer_blocks.0.attn.to_out.0", "bypassed", "if mask is None else F.linear("),),
)

mutation(
    "f5_tts",
    "no longer called",
    Edit(
        DIT,
        """
            x = self.conv_pos_embed(x, mask=audio_mask) + x
        """,
        "",
    ),
    changes={
        "input_embed.conv_pos_embed": not_called(gradient="unknown"),
        CONVOLUTION: not_called(calls=0, gradient="unknown"),
        f"{CONVOLUTION}.{{1,3}}": not_called(gradient="unknown"),
        f"{CONVOLUTION}.0": not_called(gradient="no"),
        f"{CONVOLUTION}.2": not_called("residual_output", gradient="no"),
    },
)

IN_TRAINING_ONLY = {
    "input_embed.conv_pos_embed": maybe_called(gradient="unknown"),
    CONVOLUTION: maybe_called(calls=0, gradient="unknown"),
    f"{CONVOLUTION}.{{1,3}}": maybe_called(gradient="unknown"),
    f"{CONVOLUTION}.0": maybe_called(gradient="no"),
    f"{CONVOLUTION}.2": maybe_called("residual_output", gradient="no"),
}

mutation(
    "f5_tts",
    "called in training only",
    Edit(
        DIT,
        """
            x = self.conv_pos_embed(x, mask=audio_mask) + x
        """,
        """
            if self.training:
                x = self.conv_pos_embed(x, mask=audio_mask) + x
        """,
    ),
    changes=IN_TRAINING_ONLY,
    cites=(Citation(f"{CONVOLUTION}.0", "unreached", "if self.training:"),),
)

mutation(
    "f5_tts",
    "called in training only, behind a return",
    Edit(
        DIT,
        """
            x = self.conv_pos_embed(x, mask=audio_mask) + x
        """,
        """
            if not self.training:
                return x
            x = self.conv_pos_embed(x, mask=audio_mask) + x
        """,
    ),
    changes=IN_TRAINING_ONLY,
    cites=(Citation(f"{CONVOLUTION}.2", "unreached", "if not self.training:"),),
)

mutation(
    "f5_tts",
    "weight tied",
    Edit(
        MODULES,
        """
            self.to_v = nn.Linear(dim, self.inner_dim)
        """,
        """
            self.to_v = nn.Linear(dim, self.inner_dim)
            self.to_v.weight = self.to_k.weight
        """,
    ),
    changes={
        f"transformer_blocks.{block}.attn.{one}": {"tied": ("no", f"transformer_blocks.{block}.attn.{other}")}
        for block in (0, 1)
        for one, other in (("to_k", "to_v"), ("to_v", "to_k"))
    },
)

mutation(
    "f5_tts",
    "activation removed",
    Edit(
        MODULES,
        "project_in = nn.Sequential(nn.Linear(dim, inner_dim), activation)",
        "project_in = nn.Sequential(nn.Linear(dim, inner_dim))",
    ),
    changes={
        "transformer_blocks.*.ff.ff.0.0": {"role feedforward_in": LOST},
        "transformer_blocks.*.ff.ff.2": {"role feedforward_out": LOST},
    },
    removed=("transformer_blocks.*.ff.ff.0.1",),
)
