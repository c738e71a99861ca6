"""Mutations of transformers' BERT, GPT-2 and Mixtral."""

from __future__ import annotations

from mutations.case import GAINED, LOST, Citation, Edit, maybe_called, mutation, not_called

BERT = "transformers.models.bert.modeling_bert"
GPT2 = "transformers.models.gpt2.modeling_gpt2"
MIXTRAL = "transformers.models.mixtral.modeling_mixtral"
ROUTER = "model.layers.*.mlp.gate"

# --- BERT ---------------------------------------------------------------------------------

mutation(
    "bert",
    "zero-init added by a parent",
    Edit(
        BERT,
        """
                init.zeros_(module.bias)
            elif isinstance(module, BertEmbeddings):
        """,
        """
                init.zeros_(module.bias)
            elif isinstance(module, BertPooler):
                init.constant_(module.dense.weight, 0.0)
            elif isinstance(module, BertEmbeddings):
        """,
    ),
    changes={"pooler.dense": {"init weight": ("random", "zero")}},
    cites=(Citation("pooler.dense", "init weight", "init.constant_(module.dense.weight, 0.0)"),),
)

mutation(
    "bert",
    "class renamed",
    Edit(BERT, "BertSelfOutput(", "Modulation(", times=2),
    changes={"encoder.layer.*.attention.output": {"kind": ("BertSelfOutput", "Modulation")}},
)

mutation(
    "bert",
    "query and key swapped",
    Edit(BERT, "query_layer = self.query(hidden_states)", "query_layer = self.key(hidden_states)", times=2),
    Edit(BERT, "key_layer = self.key(hidden_states)", "key_layer = self.query(hidden_states)"),
    changes={
        "encoder.layer.*.attention.self.query": {"role attention_query": LOST, "role attention_key": GAINED},
        "encoder.layer.*.attention.self.key": {"role attention_key": LOST, "role attention_query": GAINED},
    },
)

mutation(
    "bert",
    "activation removed",
    Edit(
        BERT,
        """
            hidden_states = self.intermediate_act_fn(hidden_states)
        """,
        "",
    ),
    changes={
        "encoder.layer.*.intermediate.intermediate_act_fn": not_called(gradient="unknown"),
        "encoder.layer.*.intermediate.dense": {"role feedforward_in": LOST},
        "encoder.layer.*.output.dense": {"role feedforward_out": LOST},
    },
)

mutation(
    "bert",
    "residual add removed",
    Edit(
        BERT,
        "layer_output = self.output(intermediate_output, attention_output)",
        "layer_output = self.output(intermediate_output, 0.0)",
    ),
    changes={
        "encoder.layer.*.intermediate.dense": {"role feedforward_in": LOST},
        "encoder.layer.*.output.dense": {"role feedforward_out": LOST, "role residual_output": LOST},
    },
)

mutation(
    "bert",
    "result no longer used",
    Edit(
        BERT,
        """
            embeddings = embeddings + position_embeddings
        """,
        "",
    ),
    changes={"embeddings.position_embeddings": {"gradient": LOST}},
)

mutation(
    "bert",
    "no longer called",
    Edit(BERT, "self.pooler(sequence_output) if self.pooler is not None else None", "None"),
    changes={
        "pooler": not_called(),
        "pooler.dense": not_called("output_head"),
        "pooler.activation": not_called(gradient="unknown"),
    },
)

mutation(
    "bert",
    "called where an argument asks for it",
    Edit(
        BERT,
        "self.pooler(sequence_output) if self.pooler is not None else None",
        "self.pooler(sequence_output) if position_ids is not None else None",
    ),
    changes={
        "pooler": maybe_called(),
        "pooler.dense": maybe_called("output_head"),
        "pooler.activation": maybe_called(gradient="unknown"),
    },
    cites=(Citation("pooler.dense", "unreached", "if position_ids is not None else None"),),
)

mutation(
    "bert",
    "a forward without gradient",
    Edit(
        BERT,
        """
            def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
                # We "pool" the model by simply taking the hidden state corresponding
        """,
        """
            @torch.no_grad()
            def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
                # We "pool" the model by simply taking the hidden state corresponding
        """,
    ),
    changes={"pooler": {"gradient": ("yes", "unknown")}, "pooler.dense": {"gradient": LOST}},
)

mutation(
    "bert",
    "weight tied",
    Edit(
        BERT,
        """
            self.value = nn.Linear(config.hidden_size, self.all_head_size)
        """,
        """
            self.value = nn.Linear(config.hidden_size, self.all_head_size)
            self.value.weight = self.query.weight
        """,
        times=2,
    ),
    changes={
        f"encoder.layer.{layer}.attention.self.{one}": {"tied": ("no", f"encoder.layer.{layer}.attention.self.{other}")}
        for layer in (0, 1)
        for one, other in (("query", "value"), ("value", "query"))
    },
)

# --- GPT-2 --------------------------------------------------------------------------------

SPLIT = {"to_q": "attention_query", "to_k": "attention_key", "norm": "attention_value"}

mutation(
    "gpt2",
    "fused projection split in three",
    Edit(
        GPT2,
        """
            self.c_attn = Conv1D(3 * self.embed_dim, self.embed_dim)
        """,
        """
            self.to_q = Conv1D(self.embed_dim, self.embed_dim)
            self.to_k = Conv1D(self.embed_dim, self.embed_dim)
            self.norm = Conv1D(self.embed_dim, self.embed_dim)
        """,
    ),
    Edit(
        GPT2,
        "query_states, key_states, value_states = self.c_attn(hidden_states).split(self.split_size, dim=2)",
        "query_states, key_states, value_states = (p(hidden_states) for p in (self.to_q, self.to_k, self.norm))",
    ),
    removed=("transformer.h.*.attn.c_attn",),
    added={
        f"transformer.h.{block}.attn.{name}": {
            "kind": "Conv1D",
            "calls": "1",
            "gradient": "yes",
            "block": f"transformer.h.* {block}",
            "init weight": "random",
            "init bias": "zero",
            "shape weight": "48x48",
            "shape bias": "48",
            f"role {role}": "yes",
        }
        for block in (0, 1)
        for name, role in SPLIT.items()
    },
)

mutation(
    "gpt2",
    "scaled draw turned into zeros",
    Edit(GPT2, "init.normal_(module.c_proj.weight, mean=0.0, std=std)", "init.zeros_(module.c_proj.weight)"),
    changes={
        "transformer.h.*.{attn.c_proj,mlp.c_proj}": {"init weight": ("random", "zero")},
        "transformer.h.*.{ln_1,ln_2,attn.c_attn,mlp.c_fc}": {"gradient": LOST},
    },
    cites=(Citation("transformer.h.0.attn.c_proj", "init weight", "init.zeros_(module.c_proj.weight)"),),
)

mutation(
    "gpt2",
    "weight no longer tied",
    Edit(
        GPT2,
        """
            _tied_weights_keys = {"lm_head.weight": "transformer.wte.weight"}
        """,
        "",
        times=2,
    ),
    changes={
        "lm_head": {"tied": ("transformer.wte", "no")},
        "transformer.wte": {"tied": ("lm_head", "no")},
    },
)

# --- Mixtral ------------------------------------------------------------------------------

mutation(
    "mixtral",
    "gate renamed",
    Edit(MIXTRAL, "self.gate = MixtralTopKRouter(config)", "self.norm = MixtralTopKRouter(config)"),
    Edit(MIXTRAL, "= self.gate(hidden_states)", "= self.norm(hidden_states)"),
    renamed=("mlp.gate", "mlp.norm"),
)

mutation(
    "mixtral",
    "class renamed",
    Edit(MIXTRAL, "MixtralTopKRouter", "MixtralAttentionPool", times=4),
    changes={ROUTER: {"kind": ("MixtralTopKRouter", "MixtralAttentionPool")}},
)

mutation(
    "mixtral",
    "router that no longer routes",
    Edit(
        MIXTRAL,
        "router_probs = torch.nn.functional.softmax(router_logits.float(), dim=-1)",
        "router_probs = torch.rand_like(router_logits)",
    ),
    changes={ROUTER: {"role router": LOST, "gradient": LOST}},
)

mutation(
    "mixtral",
    "weights of the experts detached",
    Edit(
        MIXTRAL,
        """
            router_scores = router_top_value
        """,
        """
            router_scores = router_top_value.detach()
        """,
    ),
    changes={ROUTER: {"gradient": LOST}},
)
