"""Mutations of F5-TTS's DiT: its modulation. Its output projection is zero: no gradient goes further in."""

from __future__ import annotations

from mutations.case import GAINED, KNOWN, LOST, Citation, Edit, mutation, not_called

MODULES = "f5_tts.model.modules"
DIT = "f5_tts.model.backbones.dit"

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
