"""What PEFT's LoRA can do and a spec may not ask for, each with the reason."""

from collections.abc import Mapping

_MEGATRON = "it is for the parallel layers of Megatron"
_DATA = "it goes with init = "

INITS: Mapping[str, str] = {
    "eva": "it starts from activations on the data, and ranks and start are known only then",
    "corda": "it starts from covariances that have to be collected on the data first",
    "lora_ga": "it starts from gradients that have to be collected on the data first",
    "loftq": "it replaces the base weights by quantised ones, which the saved adapter does not hold",
    "pissa_niter": (
        "PEFT draws it at random and draws again when the adapter is loaded, so that a saved adapter would not be the "
        'trained one; "pissa" is exact'
    ),
}

REFUSED_FIELDS: Mapping[str, str] = {
    "megatron_config": _MEGATRON,
    "megatron_core": _MEGATRON,
    "loftq_config": f'{_DATA}"loftq", which is not supported',
    "eva_config": f'{_DATA}"eva", which is not supported',
    "corda_config": f'{_DATA}"corda", which is not supported',
    "lora_ga_config": f'{_DATA}"lora_ga", which is not supported',
    "layer_replication": "it changes the model itself",
    "runtime_config": "it is not part of an adapter",
    "ensure_weight_tying": "PEFT finds the tied layer by the end of its name, and would adapt more than was selected",
    "trainable_token_indices": "PEFT finds the embedding by its name; rows of it are a method of their own",
    "alora_invocation_tokens": (
        "PEFT finds these tokens only in calls of its PeftModelForCausalLM; in any other the adapter is never active"
    ),
    "use_qalora": "PEFT has it for layers quantised by GPTQ only",
    "qalora_group_size": "it belongs to use_qalora",
    "arrow_config": "it routes between LoRA adapters that were trained before; it is none of its own",
    "velora_config": "it only approximates gradients to save memory in training, and is no part of an adapter",
    "monteclora_config": "it is trained by a loss term of its own, which only the training loop could add",
    "kasa_config": (
        "it cuts down the base weights for good, under every other adapter too, and needs loss terms of its own"
    ),
}

ATTENTION = (
    "PEFT adds the update of its output projection twice, and moves its frozen weights a little with every call; "
    "its `in_proj_weight` can be adapted exactly, with `select param(...)`"
)
