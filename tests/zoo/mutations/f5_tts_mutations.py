"""Mutations of F5-TTS's DiT. Its output projection starts as zeros, so that at first no gradient goes further in."""

from __future__ import annotations

from mutations.case import GAINED, KNOWN, LOST, Citation, Edit, maybe_called, mutation, not_called

MODULES = "f5_tts.model.modules"
DIT = "f5_tts.model.backbones.dit"
CONVOLUTION = "input_embed.conv_pos_embed.conv1d"

mutation(
    "f5_tts",
    "zero-init of the modulation removed",
    Edit(
        DIT,
        """
            nn.init.constant_(block.attn_norm.linear.weight, 0)
        """,
        "",
    ),
    changes={"transformer_blocks.*.attn_norm.linear": {"init weight": ("zero", "random")}},
)

mutation(
    "f5_tts",
    "zero-init turned into a draw",
    Edit(
        DIT,
        "nn.init.constant_(block.attn_norm.linear.weight, 0)",
        "nn.init.normal_(block.attn_norm.linear.weight, std=0.02)",
    ),
    changes={"transformer_blocks.*.attn_norm.linear": {"init weight": ("zero", "random")}},
    cites=(Citation("transformer_blocks.1.attn_norm.linear", "init weight", "nn.init.normal_(block.attn_norm"),),
)

mutation(
    "f5_tts",
    "zero-init of the output projection removed",
    Edit(
        DIT,
        """
            nn.init.constant_(self.proj_out.weight, 0)
        """,
        "",
    ),
    changes={
        "proj_out": {"init weight": ("zero", "random")},
        # The time embedding, the attentions and the feed-forwards stay behind modulation that starts as zeros.
        "text_embed.text_embed": {"gradient": GAINED},
        "text_embed.text_blocks.*.{dwconv,norm,pwconv1,grn,pwconv2}": {"gradient": GAINED},
        "{input_embed.proj,input_embed.conv_pos_embed.conv1d.0,input_embed.conv_pos_embed.conv1d.2}": {
            "gradient": GAINED
        },
        "{norm_out,transformer_blocks.*.attn_norm}.linear": {"gradient": GAINED},
        # What holds them.
        "{text_embed,input_embed,norm_out,transformer_blocks}": {"gradient": KNOWN},
        "text_embed.text_blocks": {"gradient": KNOWN},
        "text_embed.text_blocks.*": {"gradient": KNOWN},
        "input_embed.{conv_pos_embed,conv_pos_embed.conv1d}": {"gradient": KNOWN},
        "{transformer_blocks.*,transformer_blocks.*.attn_norm}": {"gradient": KNOWN},
    },
)

mutation(
    "f5_tts",
    "zero-init added",
    Edit(
        DIT,
        """
            nn.init.constant_(block.attn_norm.linear.weight, 0)
        """,
        """
            nn.init.constant_(block.attn_norm.linear.weight, 0)
            block.attn.to_out[0].weight.data.zero_()
        """,
    ),
    changes={"transformer_blocks.*.attn.to_out.0": {"init weight": ("random", "zero")}},
    cites=(Citation("transformer_blocks.0.attn.to_out.0", "init weight", "to_out[0].weight.data.zero_()"),),
)

mutation(
    "f5_tts",
    "gate renamed",
    Edit(MODULES, "self.linear = nn.Linear(dim, dim * 6)", "self.queries = nn.Linear(dim, dim * 6)"),
    Edit(
        MODULES,
        """
            emb = self.linear(self.silu(emb))
            shift_msa, scale_msa, gate_msa, shift_mlp, scale_mlp, gate_mlp = torch.chunk(emb, 6, dim=1)
        """,
        """
            emb = self.queries(self.silu(emb))
            shift_msa, scale_msa, gate_msa, shift_mlp, scale_mlp, gate_mlp = torch.chunk(emb, 6, dim=1)
        """,
    ),
    Edit(DIT, "block.attn_norm.linear.", "block.attn_norm.queries.", times=2),
    renamed=("attn_norm.linear", "attn_norm.queries"),
    cites=(Citation("transformer_blocks.0.attn_norm.queries", "init weight", "block.attn_norm.queries.weight"),),
)

mutation(
    "f5_tts",
    "class renamed",
    Edit(MODULES, "AdaLayerNorm(", "MultiHeadAttention(", times=4),
    changes={"transformer_blocks.*.attn_norm": {"kind": ("AdaLayerNorm", "MultiHeadAttention")}},
)

mutation(
    "f5_tts",
    "scale computed from its own stream",
    Edit(
        MODULES,
        """
            emb = self.linear(self.silu(emb))
            scale, shift = torch.chunk(emb, 2, dim=1)

            x = self.norm(x) * (1 + scale)[:, None, :] + shift[:, None, :]
        """,
        """
            scale, shift = torch.chunk(self.linear(self.silu(x)), 2, dim=-1)
            x = self.norm(x) * (1 + scale) + shift
        """,
    ),
    changes={"norm_out.linear": {"role modulation": LOST}},
)


def scale_inside_the_feed_forward(kind: str, computed_from: str, role: str) -> None:
    """A new linear that multiplies the features: FiLM of the time, or a GLU's gate, one argument apart."""
    mutation(
        "f5_tts",
        kind,
        Edit(
            MODULES,
            """
                    self.ff = FeedForward(dim=dim, mult=ff_mult, dropout=dropout, approximate="tanh")

                def forward(self, x, t, mask=None, rope=None):  # x: noised input, t: time embedding
            """,
            """
                    self.ff = FeedForward(dim=dim, mult=ff_mult, dropout=dropout, approximate="tanh")
                    self.scale = nn.Linear(dim, dim * ff_mult)

                def forward(self, x, t, mask=None, rope=None):  # x: noised input, t: time embedding
            """,
        ),
        Edit(
            MODULES,
            "ff_output = self.ff(norm)",
            f"ff_output = self.ff.ff[2](self.ff.ff[0](norm) * self.scale({computed_from}))",
        ),
        added={
            f"transformer_blocks.{block}.scale": {
                "kind": "Linear",
                "calls": "1",
                "gradient": "no",
                "block": f"transformer_blocks.* {block}",
                "init weight": "random",
                "init bias": "random",
                "shape weight": "144x48",
                "shape bias": "144",
                f"role {role}": "yes",
            }
            for block in (0, 1)
        },
        changes={
            "transformer_blocks.*.{ff,ff.ff}": {"calls": ("1", "0")},
            "transformer_blocks.*.ff.ff.1": not_called(gradient="unknown"),
        },
    )


scale_inside_the_feed_forward("scale added", "t[:, None]", "modulation")
scale_inside_the_feed_forward("scale turned into a GLU", "norm", "feedforward_in")

mutation(
    "f5_tts",
    "modulation returned",
    Edit(
        MODULES,
        """
            x = self.norm(x) * (1 + scale)[:, None, :] + shift[:, None, :]
            return x
        """,
        """
            x = self.norm(x) * (1 + scale)[:, None, :] + shift[:, None, :]
            return x, emb
        """,
    ),
    Edit(
        DIT,
        """
            x = self.norm_out(x, t)
        """,
        """
            x, emb = self.norm_out(x, t)
        """,
    ),
    Edit(
        DIT,
        """
            return output
        """,
        """
            return output, emb
        """,
    ),
    changes={
        "norm_out": {"gradient": KNOWN},
        "norm_out.linear": {"role modulation": LOST, "role output_head": GAINED, "gradient": GAINED},
        "time_embed.time_mlp.{0,2}": {"role conditioning": LOST},
    },
)

mutation(
    "f5_tts",
    "gates dropped",
    Edit(MODULES, "x = x + gate_msa.unsqueeze(1) * attn_output", "x = x + attn_output"),
    Edit(MODULES, "x = x + gate_mlp.unsqueeze(1) * ff_output", "x = x + ff_output"),
)

mutation(
    "f5_tts",
    "shift only, while the blocks scale",
    Edit(
        MODULES,
        "x = self.norm(x) * (1 + scale)[:, None, :] + shift[:, None, :]",
        "x = self.norm(x) + shift[:, None, :]",
    ),
)

mutation(
    "f5_tts",
    "shift only, everywhere",
    Edit(MODULES, "x = x + gate_msa.unsqueeze(1) * attn_output", "x = x + attn_output"),
    Edit(MODULES, "x = x + gate_mlp.unsqueeze(1) * ff_output", "x = x + ff_output"),
    Edit(
        MODULES,
        "x = self.norm(x) * (1 + scale)[:, None, :] + shift[:, None, :]",
        "x = self.norm(x) + shift[:, None, :]",
    ),
    Edit(
        MODULES,
        "x = self.norm(x) * (1 + scale_msa[:, None]) + shift_msa[:, None]",
        "x = self.norm(x) + shift_msa[:, None]",
    ),
    Edit(
        MODULES,
        "norm = self.ff_norm(x) * (1 + scale_mlp[:, None]) + shift_mlp[:, None]",
        "norm = self.ff_norm(x) + shift_mlp[:, None]",
    ),
    changes={
        "{norm_out,transformer_blocks.*.attn_norm}.linear": {"role modulation": LOST},
        "time_embed.time_mlp.{0,2}": {"role conditioning": LOST},
    },
)

mutation(
    "f5_tts",
    "modulation no longer called",
    Edit(
        MODULES,
        "norm, gate_msa, shift_mlp, scale_mlp, gate_mlp = self.attn_norm(x, emb=t)",
        "norm = self.attn_norm.norm(x)",
    ),
    Edit(MODULES, "x = x + gate_msa.unsqueeze(1) * attn_output", "x = x + attn_output"),
    Edit(MODULES, "x = x + gate_mlp.unsqueeze(1) * ff_output", "x = x + ff_output"),
    Edit(
        MODULES,
        "norm = self.ff_norm(x) * (1 + scale_mlp[:, None]) + shift_mlp[:, None]",
        "norm = self.ff_norm(x)",
    ),
    changes={
        "transformer_blocks.*.attn_norm": {"calls": ("1", "0")},
        "transformer_blocks.*.attn_norm.silu": not_called(gradient="unknown"),
        "transformer_blocks.*.attn_norm.linear": not_called("modulation", gradient="no"),
    },
)

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
    changes={
        "input_embed.conv_pos_embed": maybe_called(gradient="unknown"),
        CONVOLUTION: maybe_called(calls=0, gradient="unknown"),
        f"{CONVOLUTION}.{{1,3}}": maybe_called(gradient="unknown"),
        f"{CONVOLUTION}.0": maybe_called(gradient="no"),
        f"{CONVOLUTION}.2": maybe_called("residual_output", gradient="no"),
    },
    cites=(Citation(f"{CONVOLUTION}.0", "unreached", "if self.training:"),),
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
