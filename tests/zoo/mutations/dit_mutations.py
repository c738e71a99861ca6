"""Mutations of diffusers' DiT, whose every block has an embedding of time and class of its own."""

from __future__ import annotations

from mutations.case import GAINED, LOST, Citation, Edit, mutation

NORMALIZATION = "diffusers.models.normalization"
ATTENTION = "diffusers.models.attention"
PROCESSORS = "diffusers.models.attention_processor"
DIT = "diffusers.models.transformers.dit_transformer_2d"
EMBEDDERS = "{timestep_embedder.linear_1,timestep_embedder.linear_2,class_embedder.embedding_table}"

# --- zeros --------------------------------------------------------------------------------

mutation(
    "dit",
    "zero-init added to the modulation",
    Edit(
        NORMALIZATION,
        """
            self.linear = nn.Linear(embedding_dim, 6 * embedding_dim, bias=bias)
            if norm_type == "layer_norm":
        """,
        """
            self.linear = nn.Linear(embedding_dim, 6 * embedding_dim, bias=bias)
            nn.init.zeros_(self.linear.weight)
            if norm_type == "layer_norm":
        """,
    ),
    changes={
        "transformer_blocks.*.norm1.linear": {"init weight": ("random", "zero")},
        # The first block's embedding feeds the last modulation too; those of the others reach nothing but zeros.
        f"transformer_blocks.1.norm1.emb.{EMBEDDERS}": {"gradient": LOST},
        "transformer_blocks.1.norm1.emb": {"gradient": ("yes", "unknown")},
        "transformer_blocks.1.norm1.emb.{timestep_embedder,class_embedder}": {"gradient": ("yes", "unknown")},
    },
    cites=(
        Citation("transformer_blocks.0.norm1.linear", "init weight", "nn.init.zeros_(self.linear.weight)"),
        Citation(
            "transformer_blocks.1.norm1.emb.timestep_embedder.linear_1",
            "gradient",
            "nn.init.zeros_(self.linear.weight)",
        ),
    ),
)

mutation(
    "dit",
    "zero-init added to the output, as a parameter",
    Edit(
        DIT,
        """
            self.proj_out_1 = nn.Linear(self.inner_dim, 2 * self.inner_dim)
        """,
        """
            self.proj_out_1 = nn.Linear(self.inner_dim, 2 * self.inner_dim)
            self.proj_out_1.weight = nn.Parameter(torch.zeros(2 * self.inner_dim, self.inner_dim))
        """,
    ),
    changes={"proj_out_1": {"init weight": ("random", "zero")}},
    cites=(Citation("proj_out_1", "init weight", "nn.Parameter(torch.zeros(2 * self.inner_dim"),),
)

# --- names --------------------------------------------------------------------------------

mutation(
    "dit",
    "gate renamed",
    Edit(DIT, "proj_out_1", "to_k", times=2),
    renamed=("proj_out_1", "to_k"),
)

mutation(
    "dit",
    "class renamed",
    Edit(NORMALIZATION, "class AdaLayerNormZero(", "class FeedForward("),
    Edit(ATTENTION, "AdaLayerNormZero, RMSNorm", "FeedForward as Embedding, RMSNorm"),
    Edit(ATTENTION, "AdaLayerNormZero(dim", "Embedding(dim", times=3),
    changes={"transformer_blocks.*.norm1": {"kind": ("AdaLayerNormZero", "FeedForward")}},
)

# --- modulation ---------------------------------------------------------------------------

mutation(
    "dit",
    "scale computed from its own stream",
    Edit(
        DIT,
        """
            shift, scale = self.proj_out_1(F.silu(conditioning)).chunk(2, dim=1)
            hidden_states = self.norm_out(hidden_states) * (1 + scale[:, None]) + shift[:, None]
        """,
        """
            shift, scale = self.proj_out_1(F.silu(hidden_states)).chunk(2, dim=-1)
            hidden_states = self.norm_out(hidden_states) * (1 + scale) + shift
        """,
    ),
    changes={"proj_out_1": {"role modulation": LOST}},
)

mutation(
    "dit",
    "modulation as a token of the attention too",
    Edit(
        ATTENTION,
        """
            attn_output = self.attn1(
                norm_hidden_states,
                encoder_hidden_states=encoder_hidden_states if self.only_cross_attention else None,
                attention_mask=attention_mask,
                **cross_attention_kwargs,
            )

            if self.norm_type == "ada_norm_zero":
        """,
        """
            attn_output = self.attn1(torch.cat([norm_hidden_states, gate_mlp[:, None]], dim=1))[:, :-1]

            if self.norm_type == "ada_norm_zero":
        """,
    ),
    changes={
        "transformer_blocks.*.norm1.linear": {"role modulation": LOST},
        f"transformer_blocks.*.norm1.emb.{EMBEDDERS}": {"role conditioning": LOST},
    },
)

mutation(
    "dit",
    "gate dropped",
    Edit(ATTENTION, "gate_msa.unsqueeze(1) * attn_output", "attn_output", times=2),
    Edit(ATTENTION, "gate_mlp.unsqueeze(1) * ff_output", "ff_output", times=2),
)

# --- layers -------------------------------------------------------------------------------

mutation(
    "dit",
    "norm replaced by an identity",
    Edit(
        ATTENTION,
        "self.norm3 = nn.LayerNorm(dim, norm_eps, norm_elementwise_affine)",
        "self.norm3 = nn.Identity()",
        times=2,
    ),
    changes={"transformer_blocks.*.norm3": {"kind": ("LayerNorm", "Identity"), "role norm": LOST}},
)

mutation(
    "dit",
    "residual add removed",
    Edit(
        ATTENTION,
        """
            ff_output = gate_mlp * ff_output

        hidden_states = ff_output + hidden_states
        """,
        """
            ff_output = gate_mlp * ff_output

        hidden_states = ff_output
        """,
    ),
    changes={
        "transformer_blocks.*.ff.net.0.proj": {"role feedforward_in": LOST},
        "transformer_blocks.*.ff.net.2": {"role feedforward_out": LOST, "role residual_output": LOST},
    },
)

mutation(
    "dit",
    "output projection read directly",
    Edit(
        PROCESSORS,
        "hidden_states = attn.to_out[0](hidden_states)",
        "hidden_states = F.linear(hidden_states, attn.to_out[0].weight, attn.to_out[0].bias)",
        times=33,
    ),
    changes={"transformer_blocks.*.attn1.to_out.0": {"calls": ("1", "0"), "bypassed": GAINED}},
    cites=(Citation("transformer_blocks.0.attn1.to_out.0", "bypassed", "F.linear(hidden_states, attn.to_out[0]"),),
)

mutation(
    "dit",
    "weight tied",
    Edit(
        DIT,
        """
            # 3. Output blocks.
        """,
        """
            self.transformer_blocks[1].norm1.linear.weight = self.transformer_blocks[0].norm1.linear.weight
        """,
    ),
    changes={
        "transformer_blocks.0.norm1.linear": {"tied": ("no", "transformer_blocks.1.norm1.linear")},
        "transformer_blocks.1.norm1.linear": {"tied": ("no", "transformer_blocks.0.norm1.linear")},
    },
)
