"""Mutations of transformers' Llama."""

from __future__ import annotations

from mutations.case import GAINED, LOST, Citation, Edit, mutation, not_called

LLAMA = "transformers.models.llama.modeling_llama"
LAYERS = "model.layers.*"

# --- first values -------------------------------------------------------------------------

BEHIND_ZEROS = {
    f"{LAYERS}.mlp.{{gate_proj,up_proj}}": {"gradient": LOST},
    f"{LAYERS}.post_attention_layernorm": {"gradient": LOST},
}

mutation(
    "llama",
    "zero-init added by a parent",
    Edit(
        LLAMA,
        """
            _can_record_outputs = {
                "hidden_states": LlamaDecoderLayer,
        """,
        """
            @torch.no_grad()
            def _init_weights(self, module):
                super()._init_weights(module)
                if isinstance(module, LlamaMLP):
                    nn.init.zeros_(module.down_proj.weight)

            _can_record_outputs = {
                "hidden_states": LlamaDecoderLayer,
        """,
    ),
    changes={f"{LAYERS}.mlp.down_proj": {"init weight": ("random", "zero")}, **BEHIND_ZEROS},
    cites=(
        Citation("model.layers.0.mlp.down_proj", "init weight", "nn.init.zeros_(module.down_proj.weight)"),
        Citation("model.layers.1.mlp.up_proj", "gradient", "nn.init.zeros_(module.down_proj.weight)"),
    ),
)

mutation(
    "llama",
    "zeros that a later draw overwrites",
    Edit(
        LLAMA,
        """
            self.act_fn = ACT2FN[config.hidden_act]
        """,
        """
            self.act_fn = ACT2FN[config.hidden_act]
            nn.init.zeros_(self.down_proj.weight)
        """,
    ),
)

mutation(
    "llama",
    "zeros after a draw, in a loop",
    Edit(
        LLAMA,
        """
                self.post_init()

            @can_return_tuple
        """,
        """
                self.post_init()
                for layer in self.model.layers:
                    layer.mlp.down_proj.weight.data *= 0.0
                    layer.self_attn.o_proj.weight.data[:] = 1.0

            @can_return_tuple
        """,
    ),
    changes={
        f"{LAYERS}.mlp.down_proj": {"init weight": ("random", "zero")},
        f"{LAYERS}.self_attn.o_proj": {"init weight": ("random", "constant")},
        **BEHIND_ZEROS,
    },
)

# --- names --------------------------------------------------------------------------------

mutation(
    "llama",
    "gate renamed",
    Edit(LLAMA, "self.gate_proj", "self.v_proj", times=2),
    renamed=("mlp.gate_proj", "mlp.v_proj"),
)

mutation(
    "llama",
    "class renamed",
    Edit(LLAMA, "LlamaMLP(", "SelfAttention(", times=2),
    changes={f"{LAYERS}.mlp": {"kind": ("LlamaMLP", "SelfAttention")}},
)

# --- layers -------------------------------------------------------------------------------

mutation(
    "llama",
    "gate dropped",
    Edit(LLAMA, "self.act_fn(self.gate_proj(x)) * self.up_proj(x)", "self.act_fn(self.up_proj(x))"),
    changes={f"{LAYERS}.mlp.gate_proj": not_called("feedforward_in")},
)

mutation(
    "llama",
    "activation and gate removed",
    Edit(LLAMA, "self.act_fn(self.gate_proj(x)) * self.up_proj(x)", "self.gate_proj(x) + self.up_proj(x)"),
    changes={
        f"{LAYERS}.mlp.act_fn": not_called(gradient="unknown"),
        f"{LAYERS}.mlp.{{gate_proj,up_proj}}": {"role feedforward_in": LOST},
        f"{LAYERS}.mlp.down_proj": {"role feedforward_out": LOST},
    },
)

mutation(
    "llama",
    "activation removed, the gate stays",
    Edit(LLAMA, "self.act_fn(self.gate_proj(x)) * self.up_proj(x)", "self.gate_proj(x) * self.up_proj(x)"),
    changes={f"{LAYERS}.mlp.act_fn": not_called(gradient="unknown")},
)

mutation(
    "llama",
    "output of the attention gated by its own stream",
    Edit(
        LLAMA,
        """
            self.is_causal = True
        """,
        """
            self.is_causal = True
            self.modulation = nn.Linear(config.hidden_size, config.num_attention_heads * self.head_dim)
        """,
    ),
    Edit(
        LLAMA,
        "attn_output = self.o_proj(attn_output)",
        "attn_output = self.o_proj(attn_output * torch.sigmoid(self.modulation(hidden_states)))",
    ),
    added={
        f"model.layers.{layer}.self_attn.modulation": {
            "kind": "Linear",
            "calls": "1",
            "gradient": "yes",
            "block": f"model.layers.* {layer}",
            "init weight": "random",
            "init bias": "zero",
            "shape weight": "32x48",
            "shape bias": "32",
        }
        for layer in (0, 1)
    },
)

mutation(
    "llama",
    "output normalised",
    Edit(
        LLAMA,
        "logits = self.lm_head(hidden_states)",
        "logits = nn.functional.layer_norm(self.lm_head(hidden_states), (self.vocab_size,))",
    ),
    changes={"lm_head": {"role output_head": LOST}, "": {"role norm": GAINED}},
)

mutation(
    "llama",
    "output capped",
    Edit(
        LLAMA,
        "logits = self.lm_head(hidden_states)",
        "logits = 30.0 * torch.tanh(self.lm_head(hidden_states) / 30.0)",
    ),
)

mutation(
    "llama",
    "norm replaced by an identity",
    Edit(
        LLAMA,
        "self.input_layernorm = LlamaRMSNorm(config.hidden_size, eps=config.rms_norm_eps)",
        "self.input_layernorm = nn.Identity()",
    ),
    changes={
        f"{LAYERS}.input_layernorm": {
            "kind": ("LlamaRMSNorm", "Identity"),
            "init weight": ("constant", "no"),
            "shape weight": ("48", "no"),
            "role norm": LOST,
            "gradient": ("yes", "unknown"),
        }
    },
)

mutation(
    "llama",
    "norm that no longer normalises",
    Edit(
        LLAMA,
        """
            hidden_states = hidden_states * torch.rsqrt(variance + self.variance_epsilon)
        """,
        "",
    ),
    changes={
        f"{{{LAYERS}.input_layernorm,{LAYERS}.post_attention_layernorm,model.norm}}": {"role norm": LOST},
    },
)

mutation(
    "llama",
    "key and value swapped",
    Edit(LLAMA, "key_states = self.k_proj(", "key_states = self.v_proj("),
    Edit(LLAMA, "value_states = self.v_proj(", "value_states = self.k_proj("),
    changes={
        f"{LAYERS}.self_attn.k_proj": {"role attention_key": LOST, "role attention_value": GAINED},
        f"{LAYERS}.self_attn.v_proj": {"role attention_value": LOST, "role attention_key": GAINED},
    },
)

mutation(
    "llama",
    "three projections fused",
    Edit(
        LLAMA,
        """
            self.q_proj = nn.Linear(
                config.hidden_size, config.num_attention_heads * self.head_dim, bias=config.attention_bias
            )
            self.k_proj = nn.Linear(
                config.hidden_size, config.num_key_value_heads * self.head_dim, bias=config.attention_bias
            )
            self.v_proj = nn.Linear(
                config.hidden_size, config.num_key_value_heads * self.head_dim, bias=config.attention_bias
            )
        """,
        """
            self.sizes = [n * self.head_dim for n in (config.num_attention_heads, *2 * [config.num_key_value_heads])]
            self.o = nn.Linear(config.hidden_size, sum(self.sizes), bias=config.attention_bias)
        """,
    ),
    Edit(
        LLAMA,
        """
            query_states = self.q_proj(hidden_states).view(hidden_shape).transpose(1, 2)
            key_states = self.k_proj(hidden_states).view(hidden_shape).transpose(1, 2)
            value_states = self.v_proj(hidden_states).view(hidden_shape).transpose(1, 2)
        """,
        """
            parts = self.o(hidden_states).split(self.sizes, dim=-1)
            query_states, key_states, value_states = (p.view(hidden_shape).transpose(1, 2) for p in parts)
        """,
    ),
    removed=(f"{LAYERS}.self_attn.{{q_proj,k_proj,v_proj}}",),
    added={
        f"model.layers.{layer}.self_attn.o": {
            "kind": "Linear",
            "calls": "1",
            "gradient": "yes",
            "block": f"model.layers.* {layer}",
            "init weight": "random",
            "shape weight": "64x48",
            "role attention_qkv": "yes",
        }
        for layer in (0, 1)
    },
)

mutation(
    "llama",
    "residual add removed",
    Edit(
        LLAMA,
        """
            hidden_states = self.mlp(hidden_states)
            hidden_states = residual + hidden_states
        """,
        """
            hidden_states = self.mlp(hidden_states)
        """,
    ),
    changes={
        f"{LAYERS}.mlp.{{gate_proj,up_proj}}": {"role feedforward_in": LOST},
        f"{LAYERS}.mlp.down_proj": {"role feedforward_out": LOST, "role residual_output": LOST},
    },
)
