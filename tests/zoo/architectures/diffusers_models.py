"""diffusers: transformers that denoise latent images and videos, each called once with a batch of two.

Where a class allows it, cross attention, text features and heads have sizes of their own, so that no two shapes are
equal by accident. `FeedForward` is four times as wide as the stream in most of these classes and cannot be set.
"""

from __future__ import annotations

import torch

from architectures.registry import Built, architecture

TEXT_FEATURES = 40
POOLED_FEATURES = 28
ROTARY_AXES = (4, 6, 6)  # channels of a Flux head that turn with each axis of a position
WAN_TEXT_TOKENS = 512  # WanAttnProcessor takes the last 512 tokens of the context as the text's


@architecture("diffusers/dit")
def dit() -> Built:
    """diffusers/models/transformers/dit_transformer_2d.py: latents (2, 4, 16, 16), a step and a class per sample."""
    from diffusers import DiTTransformer2DModel

    model = DiTTransformer2DModel(
        num_attention_heads=3,
        attention_head_dim=16,
        in_channels=4,
        out_channels=8,
        num_layers=3,
        sample_size=16,
        num_embeds_ada_norm=10,
    )
    return model.eval(), {
        "hidden_states": torch.randn(2, 4, 16, 16),
        "timestep": torch.randint(0, 1000, (2,)),
        "class_labels": torch.randint(0, 10, (2,)),
    }


@architecture("diffusers/pixart")
def pixart() -> Built:
    """diffusers/models/transformers/pixart_transformer_2d.py: given resolution and aspect ratio, as PixArt-alpha."""
    from diffusers import PixArtTransformer2DModel

    model = PixArtTransformer2DModel(
        num_attention_heads=3,
        attention_head_dim=16,  # a stream of 48, in thirds for height, width and aspect ratio
        in_channels=4,
        out_channels=8,
        num_layers=3,
        cross_attention_dim=48,
        sample_size=16,
        caption_channels=TEXT_FEATURES,
        use_additional_conditions=True,
    )
    return model.eval(), {
        "hidden_states": torch.randn(2, 4, 16, 16),
        "encoder_hidden_states": torch.randn(2, 11, TEXT_FEATURES),
        "timestep": torch.randint(0, 1000, (2,)),
        "added_cond_kwargs": {"resolution": torch.full((2, 2), 128.0), "aspect_ratio": torch.ones(2, 1)},
        "encoder_attention_mask": torch.tensor([[1] * 11, [1] * 7 + [0] * 4]),
    }


@architecture("diffusers/flux")
def flux() -> Built:
    """diffusers/models/transformers/transformer_flux.py: two joint and two single blocks, with embedded guidance."""
    from diffusers import FluxTransformer2DModel

    model = FluxTransformer2DModel(
        in_channels=12,
        num_layers=2,
        num_single_layers=2,
        attention_head_dim=sum(ROTARY_AXES),
        num_attention_heads=3,
        joint_attention_dim=TEXT_FEATURES,
        pooled_projection_dim=POOLED_FEATURES,
        guidance_embeds=True,
        axes_dims_rope=ROTARY_AXES,
    )
    return model.eval(), {
        "hidden_states": torch.randn(2, 20, 12),
        "encoder_hidden_states": torch.randn(2, 7, TEXT_FEATURES),
        "pooled_projections": torch.randn(2, POOLED_FEATURES),
        "timestep": torch.rand(2),
        "img_ids": torch.randint(0, 5, (20, 3)).float(),
        "txt_ids": torch.zeros(7, 3),
        "guidance": torch.full((2,), 3.5),
    }


@architecture("diffusers/sd3")
def sd3() -> Built:
    """diffusers/models/transformers/transformer_sd3.py: as SD 3.5 medium, the first block with a second attention."""
    from diffusers import SD3Transformer2DModel

    model = SD3Transformer2DModel(
        sample_size=16,
        in_channels=4,
        num_layers=3,
        attention_head_dim=16,
        num_attention_heads=3,
        joint_attention_dim=TEXT_FEATURES,
        caption_projection_dim=48,
        pooled_projection_dim=POOLED_FEATURES,
        out_channels=5,
        pos_embed_max_size=12,
        dual_attention_layers=(0,),
        qk_norm="rms_norm",
    )
    return model.eval(), {
        "hidden_states": torch.randn(2, 4, 16, 12),
        "encoder_hidden_states": torch.randn(2, 7, TEXT_FEATURES),
        "pooled_projections": torch.randn(2, POOLED_FEATURES),
        "timestep": torch.randint(0, 1000, (2,)),
    }


def _wan(*, image_features: int | None = None, image_tokens: int | None = None) -> torch.nn.Module:
    """Wan with two blocks on a stream of 48; with image features of its own width for image to video."""
    from diffusers import WanTransformer3DModel

    return WanTransformer3DModel(
        num_attention_heads=3,
        attention_head_dim=16,
        in_channels=4,
        out_channels=5,
        text_dim=TEXT_FEATURES,
        freq_dim=32,
        ffn_dim=104,
        num_layers=2,
        rope_max_seq_len=32,
        image_dim=image_features,
        added_kv_proj_dim=None if image_features is None else 48,
        pos_embed_seq_len=image_tokens,
    ).eval()


@architecture("diffusers/wan")
def wan() -> Built:
    """diffusers/models/transformers/transformer_wan.py: text to video, latents (2, 4, 3, 8, 6)."""
    return _wan(), {
        "hidden_states": torch.randn(2, 4, 3, 8, 6),
        "timestep": torch.randint(0, 1000, (2,)),
        "encoder_hidden_states": torch.randn(2, 9, TEXT_FEATURES),
    }


@architecture("diffusers/wan_image_to_video")
def wan_image_to_video() -> Built:
    """diffusers/models/transformers/transformer_wan.py: from a first and a last frame, five image tokens each."""
    return _wan(image_features=36, image_tokens=10), {
        "hidden_states": torch.randn(2, 4, 3, 8, 6),
        "timestep": torch.randint(0, 1000, (2,)),
        "encoder_hidden_states": torch.randn(2, WAN_TEXT_TOKENS, TEXT_FEATURES),
        "encoder_hidden_states_image": torch.randn(4, 5, 36),
    }


@architecture("diffusers/hunyuan_dit")
def hunyuan_dit() -> Built:
    """diffusers/models/transformers/hunyuan_transformer_2d.py: four blocks, the last fed the first's output too."""
    from diffusers import HunyuanDiT2DModel

    text_tokens, t5_tokens, t5_features, head_dim = 5, 7, 32, 16
    model = HunyuanDiT2DModel(
        num_attention_heads=3,
        attention_head_dim=head_dim,
        in_channels=4,
        patch_size=2,
        sample_size=16,
        hidden_size=48,
        num_layers=4,
        mlp_ratio=2.5,
        cross_attention_dim=TEXT_FEATURES,
        cross_attention_dim_t5=t5_features,
        pooled_projection_dim=POOLED_FEATURES,
        text_len=text_tokens,
        text_len_t5=t5_tokens,
    )
    angles = torch.rand(8 * 8, head_dim)
    return model.eval(), {
        "hidden_states": torch.randn(2, 4, 16, 16),
        "timestep": torch.tensor([10.0, 500.0]),  # its dtype is that of the time embedding
        "encoder_hidden_states": torch.randn(2, text_tokens, TEXT_FEATURES),
        "text_embedding_mask": torch.ones(2, text_tokens, dtype=torch.long),
        "encoder_hidden_states_t5": torch.randn(2, t5_tokens, t5_features),
        "text_embedding_mask_t5": torch.tensor([[1] * 7, [1] * 4 + [0] * 3]),
        "image_meta_size": torch.full((2, 6), 128.0),
        "style": torch.zeros(2, dtype=torch.long),
        "image_rotary_emb": (angles.cos(), angles.sin()),
    }


@architecture("diffusers/ltx_video")
def ltx_video() -> Built:
    """diffusers/models/transformers/transformer_ltx.py: latents of three frames of 4 x 5 as a sequence of 60."""
    from diffusers import LTXVideoTransformer3DModel

    model = LTXVideoTransformer3DModel(
        in_channels=12,
        out_channels=10,
        num_attention_heads=3,
        attention_head_dim=16,
        cross_attention_dim=48,
        num_layers=3,
        caption_channels=TEXT_FEATURES,
    )
    return model.eval(), {
        "hidden_states": torch.randn(2, 60, 12),
        "encoder_hidden_states": torch.randn(2, 7, TEXT_FEATURES),
        "timestep": torch.randint(0, 1000, (2,)),
        "encoder_attention_mask": torch.tensor([[1] * 7, [1] * 4 + [0] * 3]),
        "num_frames": 3,
        "height": 4,
        "width": 5,
    }


@architecture("diffusers/sana")
def sana() -> Built:
    """diffusers/models/transformers/sana_transformer.py: with norms of queries and keys, as Sana 1.5."""
    from diffusers import SanaTransformer2DModel

    model = SanaTransformer2DModel(
        in_channels=4,
        out_channels=5,
        num_attention_heads=3,
        attention_head_dim=16,
        num_layers=3,
        num_cross_attention_heads=2,
        cross_attention_head_dim=20,
        cross_attention_dim=48,
        caption_channels=TEXT_FEATURES,
        sample_size=8,
        qk_norm="rms_norm_across_heads",
    )
    return model.eval(), {
        "hidden_states": torch.randn(2, 4, 8, 6),
        "encoder_hidden_states": torch.randn(2, 7, TEXT_FEATURES),
        "timestep": torch.randint(0, 1000, (2,)),
        "encoder_attention_mask": torch.tensor([[1] * 7, [1] * 4 + [0] * 3]),
    }
