"""An example call for every transformer class of diffusers.

`smoke.diffusers_calls:NAME` is a function that makes the one of class NAME, as a spec's `inputs` names it. An argument
is made by its name and the sizes among the class's settings; what cannot be told from them stands in CALLS. Batch 2,
text of 12 tokens, latents of 16 x 24, 3 frames; packed latents of 24 tokens.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import torch

from smoke.diffusers_models import settings_of
from smoke.tensors import floats, ints, mask, upto

Settings = Mapping[str, Any]

_TEXT_WIDTHS = (
    *("caption_channels", "text_embed_dim", "text_dim", "joint_attention_dim", "cap_feat_dim", "context_in_dim"),
    "cross_attention_dim",
)


def _latents(name: str, settings: Settings, packed: bool) -> torch.Tensor:
    channels = settings["in_channels"]
    if packed:
        return floats(2, 24, channels)
    sizes = {"1D": (24,), "2D": (16, 24), "3D": (3, 16, 24)}
    return floats(2, channels, *next(size for kind, size in sizes.items() if kind in name))


def _text(settings: Settings) -> torch.Tensor | None:
    width = next((settings[key] for key in _TEXT_WIDTHS if settings.get(key)), None)
    return floats(2, 12, width) if width else None


def _positions(count: int, settings: Settings) -> torch.Tensor:
    return torch.zeros(count, len(settings["axes_dims_rope"]))


def _times() -> torch.Tensor:
    return torch.tensor([500, 300])


_ARGUMENTS: dict[str, Callable[[Settings], torch.Tensor | None]] = {
    "encoder_hidden_states": _text,
    **dict.fromkeys(("timestep", "timesteps", "r_timestep"), lambda settings: _times()),
    **dict.fromkeys(
        ("encoder_attention_mask", "encoder_mask", "encoder_hidden_states_mask"), lambda settings: mask(2, 12)
    ),
    "img_ids": lambda settings: _positions(24, settings),
    "txt_ids": lambda settings: _positions(12, settings),
    "pooled_projections": lambda settings: floats(2, settings["pooled_projection_dim"]),
    "guidance": lambda settings: floats(2),
}
# Arguments that only a setting makes a class take.
_ONLY_WITH = {"pooled_projections": "pooled_projection_dim", "guidance": "guidance_embeds"}


def _sizes() -> dict[str, torch.Tensor]:
    return {"target_size": floats(2, 2), "crop_coords": floats(2, 2)}


def _reference_pass() -> dict[str, Any]:
    """WanAnimate2's pass over the reference, which fills its cache."""
    from diffusers.models.transformers.transformer_wan_animate_2 import WanAnimate2KVCache

    return {
        "hidden_states": [floats(16, 3, 16, 24), floats(16, 3, 16, 24)],
        "condition_latents": [floats(20, 3, 16, 24), floats(20, 3, 16, 24)],
        "encoder_hidden_states": [floats(12, 4096), floats(9, 4096)],
        "encoder_hidden_states_image": floats(2, 257, 1280),
        "kv_cache": WanAnimate2KVCache(2),
        "kv_cache_mode": "extract",
        "seq_len": 288,
        "offset_grid_sizes": torch.tensor([[3, 8, 12], [3, 8, 12]]),
    }


def _molecules() -> dict[str, Any]:
    """RFD4-Proteina's tensors for 12 tokens of up to 37 atoms."""
    atoms = ("hbond", "pistack", "pication", "saltbridge", "hydrophobic", "metal-coord")
    return {
        "bb_ca": floats(2, 12, 3),
        "local_latents": floats(2, 12, 32),
        "bb_ca_time": torch.rand(2),
        "local_latents_time": torch.rand(2),
        "padding_mask": mask(2, 12),
        "token_type": ints(7, 2, 12),
        "atom37_mask": mask(2, 12, 37),
        "conditioning": {
            **{f"condition_{name}_1_atom": ints(4, 2, 12, 37) for name in atoms},
            "condition_index-group_1_token": ints(3, 2, 12),
            "molecule_iid": ints(3, 2, 12),
            "molecule_entity_id": ints(3, 2, 12),
            "token_bond_path_length": ints(9, 2, 12, 12),
            "is_in_context_conditioning": ~mask(2, 12),
            "supports_local_latent": mask(2, 12),
            "element": ints(9, 2, 12, 37),
            "charge": ints(3, 2, 12, 37),
        },
    }


CALLS: dict[str, Callable[[], dict[str, Any]]] = {
    "AceStepTransformer1DModel": lambda: {
        "hidden_states": floats(2, 24, 64),
        "context_latents": floats(2, 24, 128),
        "encoder_hidden_states": floats(2, 12, 2048),
        "timestep": floats(2),
        "timestep_r": floats(2),
    },
    "AnyFlowTransformer3DModel": lambda: {
        "hidden_states": floats(2, 3, 16, 16, 24),
        "timestep": floats(2, 3),
        "r_timestep": floats(2, 3),
    },
    "AnyFlowFARTransformer3DModel": lambda: {
        "hidden_states": floats(2, 3, 16, 16, 24),
        "timestep": floats(2, 3),
        "r_timestep": floats(2, 3),
        "chunk_partition": [1, 2],
    },
    "BriaFiboTransformer2DModel": lambda: {"text_encoder_layers": [floats(2, 12, 2048) for _ in range(4)]},
    "BriaFibo2Transformer2DModel": lambda: {"encoder_hidden_states": floats(2, 2, 12, 7680)},
    "CogVideoXTransformer3DModel": lambda: {"hidden_states": floats(2, 3, 16, 16, 24)},
    "CogView3PlusTransformer2DModel": lambda: {"original_size": floats(2, 2), **_sizes()},
    "CogView4Transformer2DModel": lambda: {"original_size": floats(2, 2), **_sizes()},
    "ConsisIDTransformer3DModel": lambda: {"hidden_states": floats(2, 3, 16, 16, 24)},
    "Cosmos3OmniTransformer": lambda: {
        "input_ids": ints(1000, 12),
        "text_indexes": upto(12),
        "position_ids": upto(36).expand(3, 36),
        "und_len": 12,
        "sequence_length": 36,
        "vision_tokens": [floats(1, 48, 3, 4, 8)],
        "vision_token_shapes": [(3, 2, 4)],
        "vision_sequence_indexes": 12 + upto(24),
        "vision_mse_loss_indexes": 12 + upto(24),
        "vision_timesteps": floats(24),
        "vision_noisy_frame_indexes": [upto(3)],
    },
    "DiTTransformer2DModel": lambda: {"hidden_states": floats(2, 4, 16, 16), "class_labels": ints(1000, 2)},
    "ErnieImageTransformer2DModel": lambda: {"text_bth": floats(2, 12, 2560), "text_lens": torch.tensor([12, 7])},
    "GlmImageTransformer2DModel": lambda: {
        "prior_token_id": ints(16384, 2, 96),
        "prior_token_drop": ~mask(2, 96),
        **_sizes(),
    },
    "HiDreamImageTransformer2DModel": lambda: {
        "hidden_states": floats(2, 16, 16, 16),
        "encoder_hidden_states_t5": floats(2, 12, 1024),
        "encoder_hidden_states_llama3": [floats(2, 9, 4096) for _ in range(4)],
        "pooled_embeds": floats(2, 2048),
    },
    "HunyuanDiT2DModel": lambda: {
        "timestep": floats(2),
        "encoder_hidden_states": floats(2, 12, 1024),
        "text_embedding_mask": mask(2, 12),
        "encoder_hidden_states_t5": floats(2, 10, 2048),
        "text_embedding_mask_t5": mask(2, 10),
        "image_meta_size": floats(2, 6),
        "style": ints(1, 2),
        "image_rotary_emb": (floats(96, 88), floats(96, 88)),
    },
    "HunyuanVideo15Transformer3DModel": lambda: {
        "timestep": floats(2),
        "encoder_hidden_states_2": floats(2, 7, 1472),
        "encoder_attention_mask_2": mask(2, 7),
        "image_embeds": floats(2, 5, 1152),
    },
    "HunyuanVideoFramepackTransformer3DModel": lambda: {
        "image_embeds": floats(2, 5, 1152),
        "indices_latents": upto(3),
        "latents_clean": floats(2, 16, 2, 16, 24),
        "indices_latents_clean": upto(2),
        "latents_history_2x": floats(2, 16, 2, 16, 24),
        "indices_latents_history_2x": upto(2),
        "latents_history_4x": floats(2, 16, 4, 16, 24),
        "indices_latents_history_4x": upto(4),
    },
    "Ideogram4Transformer2DModel": lambda: {
        "hidden_states": floats(2, 36, 128),
        "encoder_hidden_states": floats(2, 36, 53248),
        "position_ids": ints(8, 2, 36, 3),
        "segment_ids": ints(1, 2, 36),
        "indicator": torch.tensor([3] * 12 + [2] * 24).expand(2, 36),  # text, then the image
    },
    "JoyImageEditPlusTransformer3DModel": lambda: {
        "hidden_states": floats(2, 96, 16, 1, 2, 2),
        "shape_list": [[(1, 8, 12)], [(1, 8, 11)]],
    },
    "Kandinsky5Transformer3DModel": lambda: {
        "hidden_states": floats(2, 3, 16, 24, 4),
        "encoder_hidden_states": floats(2, 12, 3584),
        "pooled_projections": floats(2, 768),
        "visual_rope_pos": (upto(3), upto(8), upto(12)),
        "text_rope_pos": upto(12),
    },
    "Kandinsky6Transformer3DModel": lambda: {
        "hidden_states": floats(2, 3, 16, 24, 33),
        "encoder_hidden_states": floats(2, 12, 3584),
        "pooled_projections": floats(2, 768),
        "audio_hidden_states": floats(2, 10, 20),
    },
    "Kandinsky6SRTransformer3DModel": lambda: {"hidden_states": floats(2, 3, 16, 24, 129)},
    "Krea2Transformer2DModel": lambda: {
        "hidden_states": floats(2, 24, 64),
        "encoder_hidden_states": floats(2, 12, 2, 2560),
        "position_ids": ints(8, 36, 3),
    },
    "LTX2VideoTransformer3DModel": lambda: {
        "hidden_states": floats(2, 96, 128),
        "audio_hidden_states": floats(2, 10, 128),
        "encoder_hidden_states": floats(2, 12, 3840),
        "audio_encoder_hidden_states": floats(2, 12, 3840),
        "timestep": floats(2, 96),
        "audio_timestep": floats(2, 10),
        "sigma": floats(2),
        "num_frames": 3,
        "height": 4,
        "width": 8,
        "audio_num_frames": 10,
    },
    "LTXVideoTransformer3DModel": lambda: {
        "hidden_states": floats(2, 96, 128),
        "num_frames": 3,
        "height": 4,
        "width": 8,
    },
    "LongCatAudioDiTTransformer": lambda: {
        "hidden_states": floats(2, 24, 64),
        "encoder_hidden_states": floats(2, 12, 768),
        "timestep": floats(2),
        "latent_cond": floats(2, 24, 64),
    },
    "LuminaNextDiT2DModel": lambda: {
        "image_rotary_emb": torch.ones(16, 16, 36, dtype=torch.complex64),
        "cross_attention_kwargs": {},
    },
    "MiniMaxH3Transformer3DModel": lambda: {
        "hidden_states": floats(1, 24, 96),
        "audio_hidden_states": floats(1, 6, 32),
        "encoder_hidden_states": floats(1, 12, 5120),
        "timestep": floats(2),
        "timestep_indices": ints(2, 42),
        "token_tags": torch.tensor([0] * 12 + [1] * 24 + [2] * 6),
        "position_ids": ints(8, 42, 3),
        "text_indices": upto(12),
        "video_indices": 12 + upto(24),
        "audio_indices": 36 + upto(6),
    },
    "MiniMaxMusic3RVQDepthDecoder": lambda: {"inputs_embeds": floats(2, 8, 4096)},
    "MiniMaxMusic3Transformer1DModel": lambda: {"encoder_hidden_states": floats(2, 24, 2048)},
    "NucleusMoEImageTransformer2DModel": lambda: {"img_shapes": [(1, 4, 6), (1, 4, 6)]},
    "OmniGenTransformer2DModel": lambda: {
        "input_ids": ints(1000, 2, 12),
        "input_img_latents": [],
        "input_image_sizes": {},
        "attention_mask": torch.ones(2, 109, 109),  # text, time and 96 patches
        "position_ids": upto(109).expand(2, 109),
    },
    "PixArtTransformer2DModel": lambda: {
        "added_cond_kwargs": {"resolution": floats(2, 2), "aspect_ratio": floats(2, 1)}
    },
    "PriorTransformer": lambda: {
        "hidden_states": floats(2, 768),
        "proj_embedding": floats(2, 768),
        "encoder_hidden_states": floats(2, 77, 768),
        "attention_mask": mask(2, 77),
    },
    "QwenImage21Transformer2DModel": lambda: {
        "hidden_states": floats(2, 32, 64),
        "img_shapes": [[(1, 4, 8)], [(1, 4, 8)]],
        "img_mask": torch.tensor([False] * 12 + [True] * 8).expand(2, 20),
    },
    "QwenImageTransformer2DModel": lambda: {"img_shapes": [(1, 4, 6), (1, 4, 6)]},
    "RFD4ProteinaTransformer": _molecules,
    "SanaWMLTX2RefinerTransformer3DModel": lambda: {
        "hidden_states": floats(2, 96, 128),
        "encoder_hidden_states": floats(2, 12, 3840),
        "timestep": floats(2, 96),
        "video_rotary_emb": (floats(2, 96, 4096), floats(2, 96, 4096)),
    },
    "SanaWMTransformer3DModel": lambda: {
        "hidden_states": floats(2, 128, 3, 8, 8),
        "encoder_hidden_states": floats(2, 1, 12, 2304),
        "timestep": ints(1000, 2, 1, 3),
    },
    "StableAudio3DiTModel": lambda: {
        "hidden_states": floats(2, 256, 24),
        "encoder_hidden_states": floats(2, 12, 768),
        "global_hidden_states": floats(2, 768),
        "local_add_cond": floats(2, 257, 24),
    },
    "StableAudioDiTModel": lambda: {
        "hidden_states": floats(2, 64, 24),
        "global_hidden_states": floats(2, 1, 1536),
        "rotary_embedding": (floats(25, 32), floats(25, 32)),
    },
    "T5FilmDecoder": lambda: {
        "encodings_and_masks": [(floats(2, 12, 768), torch.ones(2, 12))],
        "decoder_input_tokens": floats(2, 24, 128),
        "decoder_noise_time": floats(2),
    },
    "TransformerTemporalModel": lambda: {"hidden_states": floats(6, 64, 8, 8), "num_frames": 3},
    "WanAnimate2Transformer3DModel": _reference_pass,
    "WanAnimateTransformer3DModel": lambda: {
        "encoder_hidden_states_image": floats(2, 5, 1280),
        "pose_hidden_states": floats(2, 16, 2, 16, 24),
        "face_pixel_values": floats(2, 3, 8, 512, 512),
    },
    "WanVACETransformer3DModel": lambda: {"control_hidden_states": floats(2, 96, 3, 16, 24)},
    "ZImageTransformer2DModel": lambda: {
        "x": [floats(16, 1, 16, 24), floats(16, 1, 16, 24)],
        "t": floats(2),
        "cap_feats": [floats(12, 2560), floats(9, 2560)],
    },
}


def example_of(name: str) -> dict[str, Any]:
    """The keywords of the example call of a class."""
    import diffusers

    settings = settings_of(name)
    taken = inspect.signature(getattr(diffusers, name).forward).parameters
    call = CALLS.get(name, dict)()
    if "hidden_states" in taken and "hidden_states" not in call:
        call["hidden_states"] = _latents(name, settings, packed="img_ids" in taken or "img_shapes" in taken)
    for argument, make in _ARGUMENTS.items():
        if argument in taken and argument not in call and settings.get(_ONLY_WITH.get(argument, ""), True):
            call[argument] = make(settings)
    return call


def __getattr__(name: str) -> Callable[[], dict[str, Any]]:
    if name.startswith("_"):
        raise AttributeError(name)
    return lambda: example_of(name)
