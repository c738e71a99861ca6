"""Model classes of transformers, built from their default configs with two layers of each kind.

`smoke.transformers_models:NAME` is a function that builds the class NAME, as a spec's `model` names it.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from typing import Any

from torch import nn

LAYERS = 2
ONE_IN = 6
_COUNTS = re.compile(r"^(num_|n_)?(hidden_|encoder_|decoder_)?(layers?|depth)$")

# Model types that every list of examples has, of all kinds of inputs and of layers.
WELL_KNOWN = [
    "bert", "roberta", "distilbert", "albert", "electra", "deberta-v2", "xlm-roberta", "xlnet", "longformer",
    "gpt2", "gpt_neox", "gptj", "opt", "bloom", "falcon", "llama", "mistral", "gemma3_text", "phi3", "qwen2", "qwen3",
    "mixtral", "qwen3_moe", "deepseek_v3", "gpt_oss", "llama4_text", "dbrx",
    "mamba", "mamba2", "jamba", "rwkv", "recurrent_gemma", "falcon_h1",
    "t5", "bart", "mbart", "pegasus", "marian", "m2m_100", "switch_transformers",
    "vit", "deit", "beit", "dinov2", "swin", "convnext", "resnet", "segformer", "mobilevit", "sam", "vit_mae",
    "whisper", "wav2vec2", "hubert", "wavlm", "audio-spectrogram-transformer", "clap", "encodec", "musicgen",
    "speecht5", "seamless_m4t_v2", "vits", "mimi",
    "clip", "siglip", "blip", "blip-2", "llava", "qwen2_vl", "paligemma", "idefics3", "flava", "layoutlmv3",
    "detr", "deformable_detr", "conditional_detr", "rt_detr", "d_fine", "yolos", "owlvit", "grounding-dino",
    "perceiver", "funnel", "reformer", "decision_transformer", "informer", "patchtst", "esm",
]  # fmt: skip


def _resnet(*stages: str) -> Callable[[], Any]:
    """A config of transformers' own ResNet, for a model whose default backbone comes from timm."""

    def config() -> Any:
        from transformers import ResNetConfig

        return ResNetConfig(depths=[LAYERS] * 4, out_features=list(stages))

    return config


_HALF_ROTARY = {"rope_theta": 10000.0, "partial_rotary_factor": 0.5, "rope_type": "default"}

# What the default config leaves open or contradicts, and what has to fit the number of layers. A function is called.
SETTINGS: dict[str, dict[str, Any]] = {
    "Blip2Model": {"image_token_id": 5},
    "ConditionalDetrModel": {"backbone_config": _resnet("stage4")},
    "DbrxModel": {"attn_config.rope_theta": 10000.0, "attn_config.clip_qkv": 8.0},
    "DeformableDetrModel": {"backbone_config": _resnet("stage2", "stage3", "stage4")},
    "DeepseekVLHybridModel": {"image_token_id": 5, "high_res_vision_config.num_hidden_layers": 3},
    "DetrModel": {"backbone_config": _resnet("stage4")},
    "Dots3NoteModel": {
        "image_token_id": 5,
        "text_config.hidden_size": 512,
        "text_config.num_attention_heads": 8,
        "text_config.num_key_value_heads": 8,
        "text_config.n_routed_experts": 16,
        "vision_config.num_local_experts": 4,
        "vision_config.adapter_out_dim": 512,
    },
    "EsmModel": {"vocab_size": 33, "pad_token_id": 1, "mask_token_id": 32},
    "Glm4vModel": {"text_config.rope_parameters": _HALF_ROTARY},
    "Glm4vMoeModel": {"text_config.num_attention_heads": 32},
    "GlmImageModel": {"text_config.rope_parameters": _HALF_ROTARY},
    "GlmImageTextModel": {"rope_parameters": _HALF_ROTARY},
    "GlmOcrModel": {"vision_config.out_hidden_size": 1024},
    "GraniteMoeHybridModel": {"layer_types": ["linear_attention", "full_attention"]},
    "Idefics3Model": {
        "image_token_id": 5,
        "text_config.hidden_size": 512,
        "text_config.num_attention_heads": 4,
        "text_config.num_key_value_heads": 4,
    },
    "InformerModel": {"prediction_length": 8, "context_length": 8},
    "JambaModel": {"attn_layer_period": 2, "attn_layer_offset": 1},
    "Lfm2MoeModel": {"layer_types": ["conv", "full_attention"], "num_dense_layers": 1},
    "LlavaModel": {"image_token_index": 5},
    "MarianModel": {"max_position_embeddings": 64},
    "MiniCPMV4_7VisionModel": {"insert_layer_id": 0},
    "MistralLarge4Model": {"text_config.hidden_size": 512, "text_config.n_routed_experts": 8},
    "ModernVBertModel": {"image_token_id": 5, "vision_config.image_size": 256},
    "NemotronModel": {"num_key_value_heads": 8},
    "PPOCRV6SmallDetModel": {
        "backbone_config.block_configs": [
            [[3, 96, 96, 1, True]],
            [[3, 96, 96, 2, False]],
            [[3, 96, 192, 2, False]],
            [[3, 192, 384, 2, False]],
        ],
        "backbone_config.depths": [1, 1, 1, 1],
        "backbone_config.out_features": ["stage1", "stage2", "stage3", "stage4"],
        "layer_list_out_channels": [96, 96, 192, 384],
    },
    "PaliGemmaModel": {"image_token_index": 5},
    "PegasusModel": {"max_position_embeddings": 64},
    "PerceiverModel": {"num_self_attends_per_block": LAYERS},
    "Qwen2VLModel": {"vision_config.hidden_size": 8192},
    "RecurrentGemmaModel": {"num_hidden_layers": 3},
    "TimeSeriesTransformerModel": {"prediction_length": 8, "context_length": 8},
    "VideoLlama3Model": {
        "text_config.hidden_size": 512,
        "text_config.num_attention_heads": 4,
        "text_config.num_key_value_heads": 4,
    },
    "VideoMAEModel": {"image_size": 64},
    "VideoLlavaModel": {"image_token_index": 5},
    "ZambaModel": {
        "num_hidden_layers": 5,
        "layers_block_type": ["linear_attention", "linear_attention", "hybrid", "linear_attention", "hybrid"],
    },
}

# Classes that take a part of the config that their model type has.
PARTS = {"MusicgenModel": "decoder"}


def _classes_of(model_type: str) -> tuple[str, ...]:
    from transformers.models.auto.modeling_auto import MODEL_MAPPING_NAMES

    names = MODEL_MAPPING_NAMES[model_type]
    return (names,) if isinstance(names, str) else tuple(names)


def all_classes() -> dict[str, str]:
    """Every class that `AutoModel` makes, to the model type whose default config it takes (the first, of several)."""
    from transformers.models.auto.modeling_auto import MODEL_MAPPING_NAMES

    found: dict[str, str] = {}
    for model_type in sorted(MODEL_MAPPING_NAMES):
        for name in _classes_of(model_type):
            found.setdefault(name, model_type)
    return found


def class_names() -> list[str]:
    """The classes of the smoke set: one in six by a hash of the name, and the well-known ones.

    A hash knows nothing of a class, so the sample is a fair one, and it stays the same when others are added.
    """
    well_known = {name for model_type in WELL_KNOWN for name in _classes_of(model_type)}
    return sorted(well_known | {name for name in all_classes() if _hash(name) % ONE_IN == 0})


def _hash(name: str) -> int:
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "big")


def config_of(name: str) -> Any:
    """The default config of a class, smaller: two layers of each kind, and what SETTINGS says."""
    from transformers import CONFIG_MAPPING

    config = CONFIG_MAPPING[all_classes()[name]]()
    if part := PARTS.get(name):
        config = getattr(config, part)
    _make_smaller(config)
    for key, value in SETTINGS.get(name, {}).items():
        *path, last = key.split(".")
        target = config
        for step in path:
            target = getattr(target, step)
        setattr(target, last, value() if callable(value) else value)
    return config


def _make_smaller(config: Any) -> None:
    from transformers import PreTrainedConfig

    values = dict(vars(config))
    for key, value in values.items():
        if isinstance(value, PreTrainedConfig):
            _make_smaller(value)
        elif key == "depths":
            setattr(config, key, type(value)(min(count, LAYERS) for count in value))
        elif "depths" not in values and isinstance(value, int) and value > LAYERS and _COUNTS.match(key):
            kept = _kept(value, values)
            setattr(config, key, len(kept))
            for other, items in values.items():
                if isinstance(items, (list, tuple)) and len(items) == value:
                    setattr(config, other, type(items)(items[i] for i in kept))


def _kept(count: int, values: dict[str, Any]) -> list[int]:
    """The first two layers, and the first of each further kind that a list with an entry for each layer names."""
    kept = set(range(LAYERS))
    for items in values.values():
        if isinstance(items, (list, tuple)) and len(items) == count and all(isinstance(item, str) for item in items):
            kept |= {items.index(kind) for kind in set(items)}
    return sorted(kept)


def __getattr__(name: str) -> Callable[[], nn.Module]:
    if name.startswith("_"):
        raise AttributeError(name)

    def build() -> nn.Module:
        import transformers

        return getattr(transformers, name)(config_of(name))

    return build
