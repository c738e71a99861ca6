"""Image models of diffusers that the rules were not written on; each small, with real weights on CPU."""

from __future__ import annotations

import torch

from architectures.registry import Built, architecture


@architecture("diffusers_held_out/auraflow", held_out=True)
def auraflow() -> Built:
    """diffusers/models/transformers/auraflow_transformer_2d.py: joint, then single blocks, AdaLN-Zero"""
    from diffusers import AuraFlowTransformer2DModel

    model = AuraFlowTransformer2DModel(
        sample_size=8,
        in_channels=3,
        num_mmdit_layers=2,
        num_single_dit_layers=2,
        attention_head_dim=12,
        num_attention_heads=4,
        joint_attention_dim=40,
        caption_projection_dim=48,
        out_channels=3,
        pos_embed_max_size=36,
    )
    inputs = {
        "hidden_states": torch.randn(2, 3, 8, 12),
        "encoder_hidden_states": torch.randn(2, 5, 40),
        "timestep": torch.tensor([0.3, 0.7]),
    }
    return model, inputs


@architecture("diffusers_held_out/lumina2", held_out=True)
def lumina2() -> Built:
    """diffusers/models/transformers/transformer_lumina2.py: gates with tanh, norms before and after each branch"""
    from diffusers import Lumina2Transformer2DModel

    model = Lumina2Transformer2DModel(
        in_channels=3,
        hidden_size=48,
        num_layers=2,
        num_refiner_layers=2,
        num_attention_heads=4,
        num_kv_heads=2,
        multiple_of=20,
        axes_dim_rope=(4, 4, 4),
        axes_lens=(32, 16, 16),
        cap_feat_dim=28,
    )
    mask = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]])
    inputs = {
        "hidden_states": torch.randn(2, 3, 8, 6),
        "timestep": torch.tensor([0.2, 0.6]),
        "encoder_hidden_states": torch.randn(2, 5, 28),
        "encoder_attention_mask": mask,
    }
    return model, inputs


@architecture("diffusers_held_out/qwen_image", held_out=True)
def qwen_image() -> Built:
    """diffusers/models/transformers/transformer_qwenimage.py: edited images are modulated as at time zero"""
    from diffusers import QwenImageTransformer2DModel

    model = QwenImageTransformer2DModel(
        in_channels=12,
        out_channels=3,
        num_layers=2,
        attention_head_dim=16,
        num_attention_heads=3,
        joint_attention_dim=28,
        axes_dims_rope=(4, 6, 6),
        zero_cond_t=True,
    )
    inputs = {
        "hidden_states": torch.randn(2, 10, 12),
        "encoder_hidden_states": torch.randn(2, 7, 28),
        "encoder_hidden_states_mask": torch.tensor([[1, 1, 1, 1, 1, 1, 1], [1, 1, 1, 1, 0, 0, 0]]),
        "timestep": torch.tensor([0.2, 0.6]),
        "img_shapes": [[(1, 2, 3), (1, 2, 2)]] * 2,
    }
    return model, inputs


@architecture("diffusers_held_out/flux2", held_out=True)
def flux2() -> Built:
    """diffusers/models/transformers/transformer_flux2.py: one modulation for all blocks, fused attention and MLP"""
    from diffusers import Flux2Transformer2DModel

    model = Flux2Transformer2DModel(
        in_channels=12,
        num_layers=2,
        num_single_layers=2,
        attention_head_dim=16,
        num_attention_heads=3,
        joint_attention_dim=28,
        timestep_guidance_channels=24,
        mlp_ratio=2.0,
        axes_dims_rope=(4, 4, 4, 4),
    )
    inputs = {
        "hidden_states": torch.randn(2, 10, 12),
        "encoder_hidden_states": torch.randn(2, 7, 28),
        "timestep": torch.tensor([0.2, 0.6]),
        "img_ids": torch.randint(0, 8, (10, 4)),
        "txt_ids": torch.randint(0, 8, (7, 4)),
        "guidance": torch.tensor([4.0, 4.0]),
    }
    return model, inputs


@architecture("diffusers_held_out/chroma", held_out=True)
def chroma() -> Built:
    """diffusers/models/transformers/transformer_chroma.py: one network makes the modulation of every block"""
    from diffusers import ChromaTransformer2DModel

    model = ChromaTransformer2DModel(
        in_channels=12,
        num_layers=2,
        num_single_layers=2,
        attention_head_dim=16,
        num_attention_heads=3,
        joint_attention_dim=28,
        axes_dims_rope=(4, 6, 6),
        approximator_num_channels=32,
        approximator_hidden_dim=40,
        approximator_layers=2,
    )
    inputs = {
        "hidden_states": torch.randn(2, 10, 12),
        "encoder_hidden_states": torch.randn(2, 7, 28),
        "timestep": torch.tensor([0.2, 0.6]),
        "img_ids": torch.randint(0, 8, (10, 3)),
        "txt_ids": torch.randint(0, 8, (7, 3)),
    }
    return model, inputs


@architecture("diffusers_held_out/hidream_image", held_out=True)
def hidream_image() -> Built:
    """diffusers/models/transformers/transformer_hidream_image.py: experts in image branches, a text per block"""
    from diffusers import HiDreamImageTransformer2DModel

    model = HiDreamImageTransformer2DModel(
        patch_size=2,
        in_channels=3,
        num_layers=2,
        num_single_layers=2,
        attention_head_dim=16,
        num_attention_heads=3,
        caption_channels=[28, 20],
        text_emb_dim=36,
        axes_dims_rope=(8, 4, 4),
        max_resolution=(8, 8),
        llama_layers=[0, 1, 2, 3],
    )
    inputs = {
        "hidden_states": torch.randn(2, 3, 8, 8),
        "timesteps": torch.tensor([3, 9]),
        "encoder_hidden_states_t5": torch.randn(2, 7, 28),
        "encoder_hidden_states_llama3": torch.randn(4, 2, 5, 20),
        "pooled_embeds": torch.randn(2, 36),
    }
    return model, inputs


@architecture("diffusers_held_out/z_image", held_out=True)
def z_image() -> Built:
    """diffusers/models/transformers/transformer_z_image.py: lists of images and captions, scales and tanh gates"""
    from diffusers import ZImageTransformer2DModel

    model = ZImageTransformer2DModel(
        in_channels=5,
        dim=48,
        n_layers=2,
        n_refiner_layers=2,
        n_heads=3,
        n_kv_heads=3,
        cap_feat_dim=28,
        axes_dims=[4, 6, 6],
        axes_lens=[128, 16, 16],
    )
    inputs = {
        "x": [torch.randn(5, 1, 4, 6), torch.randn(5, 1, 12, 12)],
        "t": torch.tensor([0.2, 0.6]),
        "cap_feats": [torch.randn(7, 28), torch.randn(11, 28)],
    }
    return model, inputs


@architecture("diffusers_held_out/prior", held_out=True)
def prior() -> Built:
    """diffusers/models/transformers/prior_transformer.py: conditions are tokens, the last token is read"""
    from diffusers import PriorTransformer

    model = PriorTransformer(
        num_attention_heads=3,
        attention_head_dim=16,
        num_layers=2,
        embedding_dim=28,
        num_embeddings=7,
        norm_in_type="layer",
        embedding_proj_norm_type="layer",
        time_embed_dim=40,
        embedding_proj_dim=20,
        clip_embed_dim=36,
    )
    inputs = {
        "hidden_states": torch.randn(2, 28),
        "timestep": torch.tensor([3, 9]),
        "proj_embedding": torch.randn(2, 20),
        "encoder_hidden_states": torch.randn(2, 7, 28),
        "attention_mask": torch.tensor([[1, 1, 1, 1, 1, 1, 1], [1, 1, 1, 1, 0, 0, 0]]),
    }
    return model, inputs


@architecture("diffusers_held_out/unet", held_out=True)
def unet() -> Built:
    """diffusers/models/unets/unet_2d_condition.py: SDXL's layout with time as scale and shift of the residual blocks"""
    from diffusers import UNet2DConditionModel

    model = UNet2DConditionModel(
        in_channels=5,
        out_channels=3,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        block_out_channels=(32, 48),
        layers_per_block=2,
        norm_num_groups=8,
        cross_attention_dim=28,
        transformer_layers_per_block=(1, 2),
        attention_head_dim=3,
        use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=20 + 6 * 8,
        resnet_time_scale_shift="scale_shift",
    )
    inputs = {
        "sample": torch.randn(2, 5, 8, 12),
        "timestep": torch.tensor([3, 9]),
        "encoder_hidden_states": torch.randn(2, 7, 28),
        "added_cond_kwargs": {"text_embeds": torch.randn(2, 20), "time_ids": torch.rand(2, 6)},
    }
    return model, inputs


@architecture("diffusers_held_out/omnigen", held_out=True)
def omnigen() -> Built:
    """diffusers/models/transformers/transformer_omnigen.py: time as a token and in the last norm"""
    from diffusers import OmniGenTransformer2DModel

    model = OmniGenTransformer2DModel(
        in_channels=5,
        hidden_size=48,
        num_attention_heads=4,
        num_key_value_heads=4,
        intermediate_size=80,
        num_layers=2,
        pad_token_id=0,
        vocab_size=36,
        max_position_embeddings=256,
        original_max_position_embeddings=64,
        rope_scaling={"short_factor": [1.0] * 6, "long_factor": [1.5] * 6},
        pos_embed_max_size=12,
        time_step_dim=20,
    )
    inputs = {
        "hidden_states": torch.randn(2, 5, 4, 6),
        "timestep": torch.tensor([0.2, 0.6]),
        "input_ids": torch.randint(0, 36, (2, 9)),
        "input_img_latents": [torch.randn(1, 5, 4, 4), torch.randn(1, 5, 2, 6)],
        "input_image_sizes": {0: [[1, 5]], 1: [[3, 6]]},
        "attention_mask": torch.ones(2, 16, 16).tril(),
        "position_ids": torch.arange(16).repeat(2, 1),
    }
    return model, inputs
