"""Diffusion transformers unlike those the rules were measured on before; each small, with real weights on CPU."""

from __future__ import annotations

import torch
from torch import nn

from architectures.registry import Built, architecture


@architecture("diffusion_held_out/lumina_next", held_out=True)
def lumina_next() -> Built:
    """diffusers/models/transformers/lumina_nextdit2d.py: two attentions share a way out, one gated from zero"""
    from diffusers import LuminaNextDiT2DModel
    from diffusers.models.embeddings import get_2d_rotary_pos_embed_lumina

    model = LuminaNextDiT2DModel(
        sample_size=8,
        patch_size=2,
        in_channels=3,
        hidden_size=48,
        num_layers=2,
        num_attention_heads=4,
        num_kv_heads=2,
        multiple_of=20,
        cross_attention_dim=28,
    )
    nn.init.normal_(model.pad_token)  # torch.empty otherwise: whatever the memory held, zeros too
    inputs = {
        "hidden_states": torch.randn(2, 3, 8, 12),
        "timestep": torch.tensor([0.2, 0.6]),
        "encoder_hidden_states": torch.randn(2, 7, 28),
        "encoder_mask": torch.tensor([[1, 1, 1, 1, 1, 1, 1], [1, 1, 1, 1, 0, 0, 0]]),
        "image_rotary_emb": get_2d_rotary_pos_embed_lumina(12, 8, 8),
        "cross_attention_kwargs": {},
    }
    return model, inputs


@architecture("diffusion_held_out/consisid", held_out=True)
def consisid() -> Built:
    """diffusers/models/transformers/consisid_transformer_3d.py: a face's features resampled and attended to"""
    from diffusers import ConsisIDTransformer3DModel

    model = ConsisIDTransformer3DModel(
        num_attention_heads=3,
        attention_head_dim=16,
        in_channels=5,
        out_channels=3,
        time_embed_dim=40,
        text_embed_dim=28,
        num_layers=4,
        sample_width=12,
        sample_height=8,
        sample_frames=9,
        patch_size=2,
        max_text_seq_length=7,
        is_train_face=True,
        cross_attn_interval=2,
        cross_attn_dim_head=10,
        cross_attn_num_heads=2,
        LFE_id_dim=20,
        LFE_vit_dim=36,
        LFE_depth=4,
        LFE_dim_head=14,
        LFE_num_heads=2,
        LFE_num_id_token=3,
        LFE_num_querie=4,
        LFE_output_dim=32,
        LFE_ff_mult=3,
        LFE_num_scale=2,
    )
    inputs = {
        "hidden_states": torch.randn(2, 3, 5, 8, 12),
        "encoder_hidden_states": torch.randn(2, 7, 28),
        "timestep": torch.tensor([3, 9]),
        "id_cond": torch.randn(2, 20),
        "id_vit_hidden": [torch.randn(2, 11, 36), torch.randn(2, 11, 36)],
    }
    return model, inputs


@architecture("diffusion_held_out/easyanimate", held_out=True)
def easyanimate() -> Built:
    """diffusers/models/transformers/transformer_easyanimate.py: a block of two streams, then one that they share"""
    from diffusers import EasyAnimateTransformer3DModel

    model = EasyAnimateTransformer3DModel(
        num_attention_heads=3,
        attention_head_dim=16,
        in_channels=5,
        out_channels=3,
        patch_size=2,
        sample_width=12,
        sample_height=8,
        num_layers=2,
        mmdit_layers=1,
        time_embed_dim=40,
        add_norm_text_encoder=True,
        text_embed_dim=28,
        text_embed_dim_t5=20,
        after_norm=True,
    )
    inputs = {
        "hidden_states": torch.randn(2, 3, 2, 8, 12),
        "timestep": torch.tensor([3, 9]),
        "encoder_hidden_states": torch.randn(2, 7, 28),
        "control_latents": torch.randn(2, 2, 2, 8, 12),
    }
    return model, inputs


@architecture("diffusion_held_out/latte", held_out=True)
def latte() -> Built:
    """diffusers/models/transformers/latte_transformer_3d.py: the attention over time is switched off by the call"""
    from diffusers import LatteTransformer3DModel

    model = LatteTransformer3DModel(
        num_attention_heads=3,
        attention_head_dim=16,
        in_channels=5,
        out_channels=3,
        num_layers=2,
        cross_attention_dim=48,
        attention_bias=True,
        sample_size=8,
        patch_size=2,
        activation_fn="gelu-approximate",
        num_embeds_ada_norm=1000,
        norm_type="ada_norm_single",
        norm_elementwise_affine=False,
        norm_eps=1e-6,
        caption_channels=28,
        video_length=3,
    )
    inputs = {
        "hidden_states": torch.randn(2, 5, 3, 8, 8),
        "timestep": torch.tensor([3, 9]),
        "encoder_hidden_states": torch.randn(2, 7, 28),
        "enable_temporal_attentions": False,
    }
    return model, inputs


@architecture("diffusion_held_out/sd3_controlnet", held_out=True)
def sd3_controlnet() -> Built:
    """diffusers/models/controlnets/controlnet_sd3.py: tokens come in embedded, features go out from zero"""
    from diffusers import SD3ControlNetModel

    model = SD3ControlNetModel(
        sample_size=8,
        patch_size=2,
        in_channels=3,
        num_layers=2,
        attention_head_dim=16,
        num_attention_heads=3,
        joint_attention_dim=None,
        pooled_projection_dim=20,
        extra_conditioning_channels=2,
        use_pos_embed=False,
        pos_embed_type=None,
    )
    inputs = {
        "hidden_states": torch.randn(2, 24, 48),
        "controlnet_cond": torch.randn(2, 5, 8, 12),
        "pooled_projections": torch.randn(2, 20),
        "timestep": torch.tensor([3, 9]),
        "conditioning_scale": 0.7,
    }
    return model, inputs
