"""Every transformer class that diffusers exports, built from its defaults with two layers of each kind.

`smoke.diffusers_models:NAME` is a function that builds the class NAME, as a spec's `model` names it.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from typing import Any

from torch import nn

LAYERS = 2
_COUNTS = re.compile(r"(^|_)n?(layers|blocks|depth)$")

# What the defaults leave open, and what has to fit the number of layers or keeps an instance small.
SETTINGS: dict[str, dict[str, Any]] = {
    "AnyFlowFARTransformer3DModel": {"num_attention_heads": 2, "ffn_dim": 512},
    "BriaFibo2Transformer2DModel": {"injection_layer_ids": (1,)},
    "CogVideoXTransformer3DModel": {"max_text_seq_length": 12},
    "ConsisIDTransformer3DModel": {"max_text_seq_length": 12},
    "CosmosTransformer3DModel": {"concat_padding_mask": False},  # needs torchvision
    "DreamLiteTransformer2DModel": {"in_channels": 64, "cross_attention_dim": 48},
    "EasyAnimateTransformer3DModel": {"in_channels": 16, "out_channels": 16, "patch_size": 2},
    "HiDreamImageTransformer2DModel": {
        "patch_size": 2,
        "in_channels": 16,
        "num_attention_heads": 2,
        "caption_channels": [1024, 4096],
        "llama_layers": [0, 1, 2, 3],
        "axes_dims_rope": (64, 32, 32),
    },
    "HunyuanDiT2DModel": {"in_channels": 4, "patch_size": 2, "hidden_size": 1408, "text_len": 12, "text_len_t5": 10},
    "HunyuanVideo15Transformer3DModel": {"num_attention_heads": 2},
    "HunyuanVideoFramepackTransformer3DModel": {
        "num_attention_heads": 2,
        "has_image_proj": True,
        "has_clean_x_embedder": True,
    },
    "LatteTransformer3DModel": {
        "in_channels": 4,
        "patch_size": 2,
        "caption_channels": 48,
        "norm_type": "ada_norm_single",
        "num_embeds_ada_norm": 1000,
        "video_length": 3,
    },
    "LuminaNextDiT2DModel": {"num_kv_heads": 8},
    "NucleusMoEImageTransformer2DModel": {
        "num_layers": 5,
        "num_experts": 8,
        "num_attention_heads": 2,
    },  # the first three and the last are dense
    "OmniGenTransformer2DModel": {"rope_scaling": {"long_factor": [1.0] * 48, "short_factor": [1.0] * 48}},
    "QwenImage21Transformer2DModel": {"num_attention_heads": 2},
    "T5FilmDecoder": {"targets_length": 24},
    "Transformer2DModel": {"in_channels": 64, "cross_attention_dim": 48},
    "TransformerTemporalModel": {"in_channels": 64},
    "WanAnimate2Transformer3DModel": {"dim": 256, "ffn_dim": 768, "num_heads": 2},
    "WanAnimateTransformer3DModel": {"inject_face_latents_blocks": 1},
    "WanVACETransformer3DModel": {"vace_layers": [0, 1]},
}


def class_names() -> list[str]:
    """The classes below `diffusers/models/transformers` that the installed diffusers exports, by its own lists."""
    import diffusers
    import diffusers.models

    structure = diffusers.models._import_structure
    defined = {name for module, names in structure.items() if module.startswith("transformers.") for name in names}
    return sorted(defined & set(diffusers._import_structure["models"]))


def settings_of(name: str) -> dict[str, Any]:
    """Every setting of the class and its value here: the default, made smaller where it counts layers."""
    import diffusers

    parameters = inspect.signature(getattr(diffusers, name).__init__).parameters
    defaults = {key: parameter.default for key, parameter in parameters.items() if key != "self"}
    return {key: _smaller(key, value) for key, value in defaults.items()} | SETTINGS.get(name, {})


def _smaller(key: str, value: Any) -> Any:
    return min(value, LAYERS) if isinstance(value, int) and _COUNTS.search(key) else value


def __getattr__(name: str) -> Callable[[], nn.Module]:
    if name.startswith("_"):
        raise AttributeError(name)

    def build() -> nn.Module:
        import diffusers

        return getattr(diffusers, name)(**settings_of(name))

    return build
