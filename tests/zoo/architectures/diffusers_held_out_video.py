"""Video and audio models of diffusers that the rules were not written on; small, with real weights on CPU."""

from __future__ import annotations

import torch

from architectures.registry import Built, architecture


@architecture("diffusers_held_out/cogvideox", held_out=True)
def cogvideox() -> Built:
    """diffusers/models/transformers/cogvideox_transformer_3d.py: version 1.5 from images, one norm for both streams"""
    from diffusers import CogVideoXTransformer3DModel

    model = CogVideoXTransformer3DModel(
        num_attention_heads=3,
        attention_head_dim=16,
        in_channels=5,
        out_channels=6,
        time_embed_dim=20,
        ofs_embed_dim=20,
        text_embed_dim=28,
        num_layers=2,
        patch_size=2,
        patch_size_t=2,
        use_rotary_positional_embeddings=True,
    )
    angles = torch.rand(12, 16)
    inputs = {
        "hidden_states": torch.randn(2, 4, 5, 4, 6),
        "encoder_hidden_states": torch.randn(2, 7, 28),
        "timestep": torch.tensor([3, 9]),
        "ofs": torch.tensor([2.0, 2.0]),
        "image_rotary_emb": (angles.cos(), angles.sin()),
    }
    return model, inputs


@architecture("diffusers_held_out/hunyuan_video", held_out=True)
def hunyuan_video() -> Built:
    """diffusers/models/transformers/transformer_hunyuan_video.py: a gated text refiner, double and single streams"""
    from diffusers import HunyuanVideoTransformer3DModel

    model = HunyuanVideoTransformer3DModel(
        in_channels=5,
        out_channels=5,
        num_attention_heads=3,
        attention_head_dim=16,
        num_layers=2,
        num_single_layers=2,
        num_refiner_layers=2,
        mlp_ratio=3.0,
        text_embed_dim=28,
        pooled_projection_dim=20,
        rope_axes_dim=(4, 6, 6),
    )
    mask = torch.tensor([[1, 1, 1, 1, 1, 1, 1], [1, 1, 1, 1, 0, 0, 0]])
    inputs = {
        "hidden_states": torch.randn(2, 5, 3, 4, 6),
        "timestep": torch.tensor([3, 9]),
        "encoder_hidden_states": torch.randn(2, 7, 28),
        "encoder_attention_mask": mask,
        "pooled_projections": torch.randn(2, 20),
        "guidance": torch.tensor([6.0, 6.0]),
    }
    return model, inputs


@architecture("diffusers_held_out/mochi", held_out=True)
def mochi() -> Built:
    """diffusers/models/transformers/transformer_mochi.py: gates scale a norm after the branch; text only read last"""
    from diffusers import MochiTransformer3DModel

    model = MochiTransformer3DModel(
        num_attention_heads=3,
        attention_head_dim=16,
        num_layers=2,
        pooled_projection_dim=20,
        in_channels=5,
        text_embed_dim=40,
        time_embed_dim=24,
    )
    mask = torch.tensor([[1, 1, 1, 1, 1, 1, 1], [1, 1, 1, 1, 0, 0, 0]])
    inputs = {
        "hidden_states": torch.randn(2, 5, 3, 4, 6),
        "encoder_hidden_states": torch.randn(2, 7, 40),
        "timestep": torch.tensor([3, 9]),
        "encoder_attention_mask": mask,
    }
    return model, inputs


@architecture("diffusers_held_out/cosmos", held_out=True)
def cosmos() -> Built:
    """diffusers/models/transformers/transformer_cosmos.py: low-rank AdaLN summed with a shared one, time per frame"""
    from diffusers import CosmosTransformer3DModel

    model = CosmosTransformer3DModel(
        in_channels=5,
        out_channels=5,
        num_attention_heads=3,
        attention_head_dim=16,
        num_layers=2,
        mlp_ratio=3.0,
        text_embed_dim=28,
        adaln_lora_dim=10,
        max_size=(8, 16, 16),
        concat_padding_mask=False,
    )
    inputs = {
        "hidden_states": torch.randn(2, 5, 3, 4, 6),
        "timestep": torch.rand(2, 1, 3, 1, 1),
        "encoder_hidden_states": torch.randn(2, 7, 28),
        "fps": 16,
    }
    return model, inputs


@architecture("diffusers_held_out/kandinsky5", held_out=True)
def kandinsky5() -> Built:
    """diffusers/models/transformers/transformer_kandinsky.py: zero modulation of text blocks and of three branches"""
    from diffusers import Kandinsky5Transformer3DModel

    model = Kandinsky5Transformer3DModel(
        in_visual_dim=5,
        in_text_dim=28,
        in_text_dim2=20,
        time_dim=40,
        out_visual_dim=5,
        model_dim=48,
        ff_dim=80,
        num_text_blocks=2,
        num_visual_blocks=2,
        axes_dims=(4, 6, 6),
    )
    inputs = {
        "hidden_states": torch.randn(2, 3, 4, 6, 5),
        "encoder_hidden_states": torch.randn(2, 7, 28),
        "timestep": torch.tensor([3.0, 9.0]),
        "pooled_projections": torch.randn(2, 20),
        "visual_rope_pos": [torch.arange(3), torch.arange(2), torch.arange(3)],
        "text_rope_pos": torch.arange(7),
    }
    return model, inputs


@architecture("diffusers_held_out/stable_audio", held_out=True)
def stable_audio() -> Built:
    """diffusers/models/transformers/stable_audio_transformer.py: time and global features are a token, no modulation"""
    from diffusers import StableAudioDiTModel

    model = StableAudioDiTModel(
        sample_size=11,
        in_channels=6,
        num_layers=2,
        attention_head_dim=12,
        num_attention_heads=4,
        num_key_value_attention_heads=2,
        out_channels=6,
        cross_attention_dim=24,
        time_proj_dim=16,
        global_states_input_dim=20,
        cross_attention_input_dim=28,
    )
    angles = torch.rand(12, 6)
    inputs = {
        "hidden_states": torch.randn(2, 6, 11),
        "timestep": torch.tensor([0.2, 0.6]),
        "encoder_hidden_states": torch.randn(2, 7, 28),
        "global_hidden_states": torch.randn(2, 1, 20),
        "rotary_embedding": (angles.cos(), angles.sin()),
    }
    return model, inputs
