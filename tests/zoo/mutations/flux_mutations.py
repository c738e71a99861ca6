"""Mutations of diffusers' Flux: joint blocks of two streams, then single ones."""

from __future__ import annotations

from mutations.case import GAINED, LOST, Citation, Edit, maybe_called, mutation, not_called

NORMALIZATION = "diffusers.models.normalization"
FLUX = "diffusers.models.transformers.transformer_flux"
EMBEDDERS = "time_text_embed.{timestep_embedder,text_embedder}.{linear_1,linear_2}"
ATTENTIONS = "{transformer_blocks,single_transformer_blocks}.*.attn"

# --- modulation ---------------------------------------------------------------------------

mutation(
    "flux",
    "zero-init added, to weight and bias",
    Edit(
        NORMALIZATION,
        """
            self.linear = nn.Linear(embedding_dim, 3 * embedding_dim, bias=bias)
        """,
        """
            self.linear = nn.Linear(embedding_dim, 3 * embedding_dim, bias=bias)
            nn.init.constant_(self.linear.weight, 0.0)
            self.linear.bias.data.fill_(0)
        """,
    ),
    changes={
        "single_transformer_blocks.*.norm.linear": {
            "init weight": ("random", "zero"),
            "init bias": ("random", "zero"),
        },
        # Behind gates that are zero, weight and bias.
        "single_transformer_blocks.*.{proj_mlp,proj_out}": {"gradient": LOST},
        "single_transformer_blocks.*.attn": {"gradient": ("yes", "unknown")},
        "single_transformer_blocks.*.attn.{norm_q,norm_k,to_q,to_k,to_v}": {"gradient": LOST},
    },
    cites=(
        Citation("single_transformer_blocks.1.norm.linear", "init weight", "nn.init.constant_(self.linear.weight"),
        Citation("single_transformer_blocks.1.attn.to_q", "gradient", "nn.init.constant_(self.linear.weight"),
    ),
)

mutation(
    "flux",
    "gate renamed",
    Edit(
        NORMALIZATION,
        "self.linear = nn.Linear(embedding_dim, 3 * embedding_dim, bias=bias)",
        "self.key = nn.Linear(embedding_dim, 3 * embedding_dim, bias=bias)",
    ),
    Edit(
        NORMALIZATION,
        """
            emb = self.linear(self.silu(emb))
            shift_msa, scale_msa, gate_msa = emb.chunk(3, dim=1)
        """,
        """
            emb = self.key(self.silu(emb))
            shift_msa, scale_msa, gate_msa = emb.chunk(3, dim=1)
        """,
    ),
    renamed=("norm.linear", "norm.key"),
)

mutation(
    "flux",
    "class renamed",
    Edit(FLUX, "FluxSingleTransformerBlock", "Router", times=4),
    changes={"single_transformer_blocks.*": {"kind": ("FluxSingleTransformerBlock", "Router")}},
)

mutation(
    "flux",
    "scale computed from its own stream",
    Edit(
        NORMALIZATION,
        """
            emb = self.linear(self.silu(conditioning_embedding).to(x.dtype))
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

mutation(
    "flux",
    "scale computed from the pooled stream",
    Edit(
        NORMALIZATION,
        """
            emb = self.linear(self.silu(conditioning_embedding).to(x.dtype))
            scale, shift = torch.chunk(emb, 2, dim=1)
            x = self.norm(x) * (1 + scale)[:, None, :] + shift[:, None, :]
        """,
        """
            scale = self.linear(self.silu(x.mean(1)))[:, : x.shape[-1]]
            x = self.norm(x) * (1 + scale)[:, None, :]
        """,
    ),
    changes={"norm_out.linear": {"role modulation": LOST}},  # squeeze and excitation
)

mutation(
    "flux",
    "modulation of low rank",
    Edit(
        NORMALIZATION,
        """
            self.linear = nn.Linear(embedding_dim, 3 * embedding_dim, bias=bias)
        """,
        """
            self.linear = nn.Linear(embedding_dim, 4, bias=bias)
            self.up = nn.Linear(4, 3 * embedding_dim, bias=False)
        """,
    ),
    Edit(
        NORMALIZATION,
        """
            shift_msa, scale_msa, gate_msa = emb.chunk(3, dim=1)
        """,
        """
            shift_msa, scale_msa, gate_msa = self.up(emb).chunk(3, dim=1)
        """,
    ),
    changes={
        "single_transformer_blocks.*.norm.linear": {
            "role modulation": LOST,
            "role conditioning": GAINED,
            "shape weight": ("144x48", "4x48"),
            "shape bias": ("144", "4"),
        }
    },
    added={
        f"single_transformer_blocks.{block}.norm.up": {
            "kind": "Linear",
            "calls": "1",
            "gradient": "yes",
            "block": f"single_transformer_blocks.* {block}",
            "init weight": "random",
            "shape weight": "144x4",
            "role modulation": "yes",
        }
        for block in (0, 1)
    },
)

mutation(
    "flux",
    "modulation joined to the text",
    Edit(
        FLUX,
        """
            encoder_hidden_states=norm_encoder_hidden_states,
        """,
        """
            encoder_hidden_states=norm_encoder_hidden_states.index_copy(
                1, torch.zeros(1, dtype=torch.long), c_gate_mlp[:, None]
            ),
        """,
    ),
    changes={
        "transformer_blocks.*.norm1_context.linear": {"role modulation": LOST},
        EMBEDDERS: {"role conditioning": LOST},
        "time_text_embed.text_embedder.linear_1": {"role input_embedding": GAINED},
    },
)

mutation(
    "flux",
    "gates dropped",
    Edit(
        FLUX,
        """
            attn_output = gate_msa.unsqueeze(1) * attn_output
        """,
        "",
    ),
    Edit(
        FLUX,
        """
            hidden_states = gate * self.proj_out(hidden_states)
        """,
        """
            hidden_states = self.proj_out(hidden_states)
        """,
    ),
)

# --- layers -------------------------------------------------------------------------------

mutation(
    "flux",
    "query and key swapped",
    Edit(
        FLUX,
        """
            query = attn.to_q(hidden_states)
            key = attn.to_k(hidden_states)
        """,
        """
            query = attn.to_k(hidden_states)
            key = attn.to_q(hidden_states)
        """,
    ),
    changes={
        f"{ATTENTIONS}.to_q": {"role attention_query": LOST, "role attention_key": GAINED},
        f"{ATTENTIONS}.to_k": {"role attention_key": LOST, "role attention_query": GAINED},
    },
)

mutation(
    "flux",
    "three projections fused",
    Edit(
        FLUX,
        """
            self.to_q = torch.nn.Linear(query_dim, self.inner_dim, bias=bias)
            self.to_k = torch.nn.Linear(query_dim, self.inner_dim, bias=bias)
            self.to_v = torch.nn.Linear(query_dim, self.inner_dim, bias=bias)
        """,
        """
            self.to_qkv = torch.nn.Linear(query_dim, 3 * self.inner_dim, bias=bias)
        """,
    ),
    Edit(
        FLUX,
        """
            query = attn.to_q(hidden_states)
            key = attn.to_k(hidden_states)
            value = attn.to_v(hidden_states)
        """,
        """
            query, key, value = attn.to_qkv(hidden_states).chunk(3, dim=-1)
        """,
    ),
    removed=(f"{ATTENTIONS}.{{to_q,to_k,to_v}}",),
    added={
        f"{family}.{block}.attn.to_qkv": {
            "kind": "Linear",
            "calls": "1",
            "gradient": "yes",
            "block": f"{family}.* {block}",
            "init weight": "random",
            "init bias": "random",
            "shape weight": "144x48",
            "shape bias": "144",
            "role attention_qkv": "yes",
        }
        for family in ("transformer_blocks", "single_transformer_blocks")
        for block in (0, 1)
    },
)

mutation(
    "flux",
    "output projection read directly",
    Edit(
        FLUX,
        "attn.to_out[0](hidden_states.contiguous())",
        "F.linear(hidden_states, attn.to_out[0].weight, attn.to_out[0].bias)",
    ),
    changes={"transformer_blocks.*.attn.to_out.0": {"calls": ("1", "0"), "bypassed": GAINED}},
    cites=(Citation("transformer_blocks.1.attn.to_out.0", "bypassed", "F.linear(hidden_states, attn.to_out[0]"),),
)

mutation(
    "flux",
    "output projection read directly without rotations",
    Edit(
        FLUX,
        """
            hidden_states = attn.to_out[0](hidden_states.contiguous())
        """,
        """
            if image_rotary_emb is None:
                hidden_states = torch.addmm(attn.to_out[0].bias, hidden_states[0], attn.to_out[0].weight)
            else:
                hidden_states = attn.to_out[0](hidden_states.contiguous())
        """,
    ),
    changes={"transformer_blocks.*.attn.to_out.0": {"bypassed": ("no", "unknown")}},
    cites=(Citation("transformer_blocks.1.attn.to_out.0", "bypassed", "torch.addmm(attn.to_out[0].bias"),),
)

CONTEXT_FF = "transformer_blocks.*.ff_context"

mutation(
    "flux",
    "no longer called",
    Edit(
        FLUX,
        """
            context_ff_output = self.ff_context(norm_encoder_hidden_states)
            encoder_hidden_states = encoder_hidden_states + c_gate_mlp.unsqueeze(1) * context_ff_output
        """,
        "",
    ),
    changes={
        CONTEXT_FF: not_called(),
        f"{CONTEXT_FF}.net": not_called(calls=0),
        f"{CONTEXT_FF}.net.0": not_called(),
        f"{CONTEXT_FF}.net.1": not_called(gradient="unknown"),
        f"{CONTEXT_FF}.net.0.proj": not_called("feedforward_in"),
        f"{CONTEXT_FF}.net.2": not_called("feedforward_out", "residual_output"),
    },
)

mutation(
    "flux",
    "called in training only",
    Edit(
        FLUX,
        """
            context_ff_output = self.ff_context(norm_encoder_hidden_states)
            encoder_hidden_states = encoder_hidden_states + c_gate_mlp.unsqueeze(1) * context_ff_output
        """,
        """
            if self.training:
                context_ff_output = self.ff_context(norm_encoder_hidden_states)
                encoder_hidden_states = encoder_hidden_states + c_gate_mlp.unsqueeze(1) * context_ff_output
        """,
    ),
    changes={
        CONTEXT_FF: maybe_called(),
        f"{CONTEXT_FF}.net": maybe_called(calls=0),
        f"{CONTEXT_FF}.net.0": maybe_called(),
        f"{CONTEXT_FF}.net.1": maybe_called(gradient="unknown"),
        f"{CONTEXT_FF}.net.0.proj": maybe_called("feedforward_in"),
        f"{CONTEXT_FF}.net.2": maybe_called("feedforward_out", "residual_output"),
    },
    cites=(Citation("transformer_blocks.0.ff_context.net.2", "unreached", "if self.training:"),),
)

mutation(
    "flux",
    "conditioning detached",
    Edit(
        FLUX,
        """
            encoder_hidden_states = self.context_embedder(encoder_hidden_states)
        """,
        """
            temb = temb.detach()
            encoder_hidden_states = self.context_embedder(encoder_hidden_states)
        """,
    ),
    changes={
        EMBEDDERS: {"gradient": LOST},
        "{time_text_embed,time_text_embed.timestep_embedder,time_text_embed.text_embedder}": {
            "gradient": ("yes", "unknown")
        },
    },
)

mutation(
    "flux",
    "text embedded without gradient",
    Edit(
        FLUX,
        """
            encoder_hidden_states = self.context_embedder(encoder_hidden_states)
        """,
        """
            with torch.no_grad():
                encoder_hidden_states = self.context_embedder(encoder_hidden_states)
        """,
    ),
    changes={"context_embedder": {"gradient": LOST}},
)
