"""Code written in another way, with values flowing as before: no fact may change."""

from __future__ import annotations

from mutations.case import Edit, mutation, not_called

MODULES = "f5_tts.model.modules"
F5_TTS = "f5_tts.model.backbones.dit"
NORMALIZATION = "diffusers.models.normalization"
FLUX = "diffusers.models.transformers.transformer_flux"
LLAMA = "transformers.models.llama.modeling_llama"
BERT = "transformers.models.bert.modeling_bert"

# --- modulation ---------------------------------------------------------------------------

mutation(
    "f5_tts",
    "modulation in place",
    Edit(
        MODULES,
        "x = self.norm(x) * (1 + scale_msa[:, None]) + shift_msa[:, None]",
        "x = self.norm(x).mul_(1 + scale_msa[:, None]).add_(shift_msa[:, None])",
    ),
)

mutation(
    "f5_tts",
    "modulation by addcmul",
    Edit(
        MODULES,
        "x = x + gate_mlp.unsqueeze(1) * ff_output",
        "x = torch.addcmul(x, gate_mlp.unsqueeze(1), ff_output)",
    ),
    Edit(
        MODULES,
        "norm = self.ff_norm(x) * (1 + scale_mlp[:, None]) + shift_mlp[:, None]",
        "norm = torch.addcmul(shift_mlp[:, None], self.ff_norm(x), 1 + scale_mlp[:, None])",
    ),
)

mutation(
    "f5_tts",
    "modulation of every token, cut by slices",
    Edit(
        MODULES,
        """
            scale, shift = torch.chunk(emb, 2, dim=1)

            x = self.norm(x) * (1 + scale)[:, None, :] + shift[:, None, :]
        """,
        """
            emb = emb[:, None].expand(-1, x.shape[1], -1)
            half = emb.shape[-1] // 2
            x = self.norm(x) * emb[..., :half].add(1.0) + emb[..., half:]
        """,
    ),
)

mutation(
    "flux",
    "modulation as two parts of a view",
    Edit(
        NORMALIZATION,
        """
            scale, shift = torch.chunk(emb, 2, dim=1)
            x = self.norm(x) * (1 + scale)[:, None, :] + shift[:, None, :]
        """,
        """
            scale, shift = emb.view(emb.shape[0], 2, 1, -1).unbind(1)
            normalised = self.norm(x)
            x = normalised + normalised * scale + shift
        """,
    ),
)

mutation(
    "flux",
    "gate cast and squashed",
    Edit(
        FLUX,
        "hidden_states = gate * self.proj_out(hidden_states)",
        "hidden_states = self.proj_out(hidden_states) * torch.tanh(gate.float()).to(hidden_states.dtype)",
    ),
)

mutation(
    "flux",
    "gate as the weight of a mean",
    Edit(
        FLUX,
        """
            hidden_states = gate * self.proj_out(hidden_states)
            hidden_states = residual + hidden_states
        """,
        """
            hidden_states = torch.lerp(residual, residual + self.proj_out(hidden_states), gate)
        """,
    ),
)

# --- attention ----------------------------------------------------------------------------

mutation(
    "f5_tts",
    "attention written out",
    Edit(
        MODULES,
        "x = F.scaled_dot_product_attention(query, key, value, attn_mask=attn_mask, dropout_p=0.0, is_causal=False)",
        "x = torch.softmax(query @ key.transpose(-1, -2) / head_dim**0.5, dim=-1) @ value",
        times=2,
    ),
)

mutation(
    "f5_tts",
    "attention by einsum, the heads last",
    Edit(
        MODULES,
        "x = F.scaled_dot_product_attention(query, key, value, attn_mask=attn_mask, dropout_p=0.0, is_causal=False)",
        'x = torch.einsum("bhij,bhjd->bhid", torch.einsum("bhid,bhjd->bhij", query, key).softmax(-1), value)',
        times=2,
    ),
)

# --- layers -------------------------------------------------------------------------------

mutation(
    "llama",
    "norm as a fused op",
    Edit(
        LLAMA,
        """
            variance = hidden_states.pow(2).mean(-1, keepdim=True)
            hidden_states = hidden_states * torch.rsqrt(variance + self.variance_epsilon)
            return self.weight * hidden_states.to(input_dtype)
        """,
        """
            shape = self.weight.shape
            return nn.functional.rms_norm(hidden_states, shape, self.weight, self.variance_epsilon).to(input_dtype)
        """,
    ),
)

mutation(
    "llama",
    "norm by division",
    Edit(
        LLAMA,
        "hidden_states = hidden_states * torch.rsqrt(variance + self.variance_epsilon)",
        "hidden_states = hidden_states / torch.sqrt(variance + self.variance_epsilon)",
    ),
)

mutation(
    "llama",
    "residual add in place",
    Edit(
        LLAMA,
        "hidden_states = residual + hidden_states",
        "hidden_states = residual.clone().add_(hidden_states)",
        times=2,
    ),
)

mutation(
    "llama",
    "residual add scaled",
    Edit(
        LLAMA,
        "hidden_states = residual + hidden_states",
        "hidden_states = torch.add(residual, hidden_states, alpha=0.5)",
        times=2,
    ),
)

mutation(
    "bert",
    "residual add as a sum",
    Edit(
        BERT,
        "self.LayerNorm(hidden_states + input_tensor)",
        "self.LayerNorm(sum([input_tensor, hidden_states]))",
        times=2,
    ),
)

mutation(
    "f5_tts",
    "activation written out",
    Edit(MODULES, "        self.act = nn.GELU()\n", "        self.act = lambda x: x * torch.sigmoid(1.702 * x)\n"),
    removed=("text_embed.text_blocks.*.act",),
)

mutation(
    "llama",
    "activation of the gate written out",
    Edit(
        LLAMA,
        "self.act_fn(self.gate_proj(x)) * self.up_proj(x)",
        "(gate := self.gate_proj(x)) * gate.sigmoid() * self.up_proj(x)",
    ),
    changes={"model.layers.*.mlp.act_fn": not_called(gradient="unknown")},
)

# --- runs ---------------------------------------------------------------------------------

CALLS = {
    "its forward": "self.mlp.forward(hidden_states)",
    "a looked up name": "getattr(self, 'm' + 'lp')(hidden_states)",
    "functional_call": "torch.func.functional_call(self.mlp, dict(self.mlp.named_parameters()), (hidden_states,))",
    "checkpoint": "torch.utils.checkpoint.checkpoint(self.mlp, hidden_states, use_reentrant=True)",
}
for name, call in CALLS.items():
    mutation("llama", f"called by {name}", Edit(LLAMA, "self.mlp(hidden_states)", call))

mutation(
    "f5_tts",
    "activations recomputed",
    Edit(F5_TTS, "if self.checkpoint_activations:", "if True:"),
)

mutation(
    "f5_tts",
    "under autocast",
    Edit(
        F5_TTS,
        """
            x = self.norm_out(x, t)
            output = self.proj_out(x)
        """,
        """
            with torch.autocast("cpu", dtype=torch.bfloat16):
                x = self.norm_out(x, t)
                output = self.proj_out(x)
        """,
    ),
)

mutation(
    "bert",
    "dictionary between the layers",
    Edit(
        BERT,
        """
            intermediate_output = self.intermediate(attention_output)
            layer_output = self.output(intermediate_output, attention_output)
        """,
        """
            states = {"wide": self.intermediate(attention_output), "residual": attention_output}
            layer_output = self.output(states["wide"], states.pop("residual"))
        """,
    ),
)

# --- first values -------------------------------------------------------------------------

WAYS = {
    "data": "block.attn_norm.linear.weight.data = torch.zeros_like(block.attn_norm.linear.weight)",
    "a new parameter": "block.attn_norm.linear.weight = nn.Parameter(torch.full((288, 48), 0.0))",
    "a product": "nn.init.uniform_(block.attn_norm.linear.weight, 0, 1).data.mul_(0)",
    "the last of two": "nn.init.zeros_(nn.init.xavier_uniform_(block.attn_norm.linear.weight))",
    "a state dict": "block.attn_norm.linear.load_state_dict({'weight': torch.zeros(288, 48)}, strict=False)",
    "a vector": "nn.utils.vector_to_parameters(torch.zeros(288 * 48), [block.attn_norm.linear.weight])",
    "a loop over names": (
        "[p.detach().zero_() for name, p in block.attn_norm.named_parameters() if name.endswith('.weight')]"
    ),
    "apply": "block.attn_norm.apply(lambda m: nn.init.zeros_(m.weight) if isinstance(m, nn.Linear) else None)",
}
for name, way in WAYS.items():
    mutation(
        "f5_tts",
        f"zeros by {name}",
        Edit(F5_TTS, "nn.init.constant_(block.attn_norm.linear.weight, 0)", way),
    )
