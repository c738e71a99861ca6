"""Mutations of transformers' Llama: what a call reaches, what it goes around, where a gradient comes to."""

from __future__ import annotations

from mutations.case import GAINED, LOST, Citation, Edit, maybe_called, mutation, not_called

LLAMA = "transformers.models.llama.modeling_llama"
LAYERS = "model.layers.*"

mutation(
    "llama",
    "output projection read directly",
    Edit(
        LLAMA,
        "attn_output = self.o_proj(attn_output)",
        "attn_output = torch.matmul(attn_output, self.o_proj.weight.t())",
    ),
    changes={f"{LAYERS}.self_attn.o_proj": {"calls": ("1", "0"), "bypassed": GAINED}},
    cites=(Citation("model.layers.0.self_attn.o_proj", "bypassed", "torch.matmul(attn_output, self.o_proj"),),
)

mutation(
    "llama",
    "output projection read directly on another device",
    Edit(
        LLAMA,
        """
            attn_output = self.o_proj(attn_output)
        """,
        """
            if attn_output.is_cuda:
                attn_output = nn.functional.linear(attn_output, self.o_proj.weight)
            else:
                attn_output = self.o_proj(attn_output)
        """,
    ),
    changes={f"{LAYERS}.self_attn.o_proj": {"bypassed": ("no", "unknown")}},
    cites=(Citation("model.layers.1.self_attn.o_proj", "bypassed", "nn.functional.linear(attn_output, self.o_proj"),),
)

mutation(
    "llama",
    "weight read a second time",
    Edit(
        LLAMA,
        "attn_output = self.o_proj(attn_output)",
        "attn_output = self.o_proj(attn_output) + 0.1 * nn.functional.linear(attn_output, self.o_proj.weight)",
    ),
    changes={f"{LAYERS}.self_attn.o_proj": {"bypassed": GAINED}},
    cites=(Citation("model.layers.0.self_attn.o_proj", "bypassed", "0.1 * nn.functional.linear("),),
)

mutation(
    "llama",
    "a branch that a setting closes",
    Edit(
        LLAMA,
        """
            attn_output = self.o_proj(attn_output)
        """,
        """
            if self.head_dim == 1:
                attn_output = nn.functional.linear(attn_output, self.o_proj.weight)
            attn_output = self.o_proj(attn_output)
        """,
    ),
)

mutation(
    "llama",
    "no longer called",
    Edit(
        LLAMA,
        """
            hidden_states = self.norm(hidden_states)
            return BaseModelOutputWithPast(
        """,
        """
            return BaseModelOutputWithPast(
        """,
    ),
    changes={"model.norm": not_called("norm")},
)

mutation(
    "llama",
    "called in training only",
    Edit(
        LLAMA,
        """
            hidden_states = self.norm(hidden_states)
            return BaseModelOutputWithPast(
        """,
        """
            if self.training:
                hidden_states = self.norm(hidden_states)
            return BaseModelOutputWithPast(
        """,
    ),
    changes={"model.norm": maybe_called("norm")},
    cites=(Citation("model.norm", "unreached", "if self.training:"),),
)

mutation(
    "llama",
    "branch detached",
    Edit(LLAMA, "hidden_states = self.mlp(hidden_states)", "hidden_states = self.mlp(hidden_states.detach())"),
    changes={f"{LAYERS}.post_attention_layernorm": {"gradient": LOST}},
)

mutation(
    "llama",
    "branch without gradient",
    Edit(
        LLAMA,
        """
            hidden_states = self.mlp(hidden_states)
        """,
        """
            with torch.no_grad():
                hidden_states = self.mlp(hidden_states)
        """,
    ),
    changes={
        f"{LAYERS}.mlp": {"gradient": ("yes", "unknown")},
        f"{LAYERS}.mlp.{{gate_proj,up_proj,down_proj}}": {"gradient": LOST},
        f"{LAYERS}.post_attention_layernorm": {"gradient": LOST},
    },
)

mutation(
    "llama",
    "weight tied",
    Edit(
        LLAMA,
        """
            self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        """,
        """
            self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
            self.lm_head.weight = self.model.embed_tokens.weight
        """,
    ),
    changes={
        "lm_head": {"tied": ("no", "model.embed_tokens")},
        "model.embed_tokens": {"tied": ("no", "lm_head")},
    },
)

mutation(
    "llama",
    "module shared by two layers",
    Edit(
        LLAMA,
        """
            self.norm = LlamaRMSNorm(config.hidden_size, eps=config.rms_norm_eps)
        """,
        """
            self.layers[1].mlp = self.layers[0].mlp
            self.norm = LlamaRMSNorm(config.hidden_size, eps=config.rms_norm_eps)
        """,
    ),
    changes={
        f"model.layers.0.{name}": {"calls": ("1", "2"), "tied": ("no", f"model.layers.1.{name}")}
        for name in ("mlp", "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj", "mlp.act_fn")
    },
    removed=("model.layers.1.{mlp,mlp.gate_proj,mlp.up_proj,mlp.down_proj,mlp.act_fn}",),
)
