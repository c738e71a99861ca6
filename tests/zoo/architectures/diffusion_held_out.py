"""Diffusion networks unlike those the rules were measured on before; each small, with real weights on CPU."""

from __future__ import annotations

import torch

from architectures.registry import Built, architecture


@architecture("diffusion_held_out/stable_cascade", held_out=True)
def stable_cascade() -> Built:
    """diffusers/models/unets/unet_stable_cascade.py: time scales and shifts between blocks, one level runs twice"""
    from diffusers import StableCascadeUNet

    model = StableCascadeUNet(
        in_channels=4,
        out_channels=3,
        timestep_ratio_embedding_dim=20,
        patch_size=2,
        conditioning_dim=36,
        block_out_channels=(32, 48),
        num_attention_heads=(2, 3),
        down_num_layers_per_block=(1, 2),
        up_num_layers_per_block=(2, 1),
        down_blocks_repeat_mappers=(1, 2),
        up_blocks_repeat_mappers=(2, 1),
        clip_text_in_channels=28,
        clip_text_pooled_in_channels=24,
        clip_image_in_channels=22,
        clip_seq=2,
        effnet_in_channels=6,
        pixel_mapper_in_channels=3,
        switch_level=(True,),
    )
    inputs = {
        "sample": torch.randn(2, 4, 16, 24),
        "timestep_ratio": torch.tensor([0.2, 0.6]),
        "clip_text_pooled": torch.randn(2, 1, 24),
        "clip_text": torch.randn(2, 7, 28),
        "clip_img": torch.randn(2, 1, 22),
    }
    return model, inputs


@architecture("diffusion_held_out/unet_2d", held_out=True)
def unet_2d() -> Built:
    """diffusers/models/unets/unet_2d.py: the time is merely added inside of the residual blocks"""
    from diffusers import UNet2DModel

    model = UNet2DModel(
        in_channels=5,
        out_channels=3,
        down_block_types=("DownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "UpBlock2D"),
        block_out_channels=(32, 48),
        layers_per_block=2,
        norm_num_groups=8,
        attention_head_dim=12,
        downsample_type="resnet",
        upsample_type="resnet",
    )
    inputs = {"sample": torch.randn(2, 5, 8, 12), "timestep": torch.tensor([3, 9])}
    return model, inputs


@architecture("diffusion_held_out/controlnet", held_out=True)
def controlnet() -> Built:
    """diffusers/models/controlnets/controlnet.py: convolutions that begin as zeros make a list of outputs"""
    from diffusers import ControlNetModel

    model = ControlNetModel(
        in_channels=5,
        conditioning_channels=3,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        block_out_channels=(32, 48),
        layers_per_block=2,
        norm_num_groups=8,
        cross_attention_dim=28,
        encoder_hid_dim=20,
        attention_head_dim=4,
        conditioning_embedding_out_channels=(8, 12),
    )
    inputs = {
        "sample": torch.randn(2, 5, 8, 12),
        "timestep": torch.tensor([3, 9]),
        "encoder_hidden_states": torch.randn(2, 7, 28),
        "controlnet_cond": torch.randn(2, 3, 16, 24),
    }
    return model, inputs


@architecture("diffusion_held_out/t5_film", held_out=True)
def t5_film() -> Built:
    """diffusers/models/transformers/t5_film_transformer.py: FiLM layers, attention written out with a softmax"""
    from diffusers.models import T5FilmDecoder

    model = T5FilmDecoder(
        input_dims=20,
        targets_length=16,
        max_decoder_noise_time=2000.0,
        d_model=48,
        num_layers=2,
        num_heads=3,
        d_kv=12,
        d_ff=80,
    )
    inputs = {
        "encodings_and_masks": [
            (torch.randn(2, 7, 48), torch.ones(2, 7)),
            (torch.randn(2, 5, 48), torch.tensor([[1.0, 1, 1, 1, 1], [1, 1, 1, 0, 0]])),
        ],
        "decoder_input_tokens": torch.randn(2, 11, 20),
        "decoder_noise_time": torch.tensor([0.2, 0.6]),
    }
    return model, inputs


@architecture("diffusion_held_out/uvit_2d", held_out=True)
def uvit_2d() -> Built:
    """diffusers/models/unets/uvit_2d.py: image tokens through convolutions and a transformer, and to logits"""
    from diffusers import UVit2DModel

    model = UVit2DModel(
        hidden_size=48,
        cond_embed_dim=20,
        micro_cond_encode_dim=8,
        micro_cond_embed_dim=40,
        encoder_hidden_size=28,
        vocab_size=36,
        codebook_size=35,
        in_channels=24,
        block_out_channels=32,
        num_res_blocks=2,
        downsample=True,
        upsample=True,
        block_num_heads=2,
        num_hidden_layers=2,
        num_attention_heads=3,
        intermediate_size=80,
        sample_size=8,
    )
    inputs = {
        "input_ids": torch.randint(0, 36, (2, 6, 8)),
        "encoder_hidden_states": torch.randn(2, 7, 28),
        "pooled_text_emb": torch.randn(2, 20),
        "micro_conds": torch.rand(2, 5),
    }
    return model, inputs


@architecture("diffusion_held_out/vq_diffusion", held_out=True)
def vq_diffusion() -> Built:
    """diffusers/models/transformers/transformer_2d.py: image tokens, a table of time steps in every norm"""
    from diffusers import Transformer2DModel

    model = Transformer2DModel(
        num_attention_heads=3,
        attention_head_dim=16,
        num_layers=2,
        cross_attention_dim=28,
        attention_bias=True,
        sample_size=4,
        num_vector_embeds=36,
        activation_fn="geglu-approximate",
        num_embeds_ada_norm=20,
        norm_type="ada_norm",
    )
    inputs = {
        "hidden_states": torch.randint(0, 36, (2, 16)),
        "encoder_hidden_states": torch.randn(2, 7, 28),
        "timestep": torch.tensor(5),
    }
    return model, inputs


@architecture("diffusion_held_out/kandinsky3", held_out=True)
def kandinsky3() -> Built:
    """diffusers/models/unets/unet_kandinsky3.py: every norm scaled and shifted by time and pooled text, from zero"""
    from diffusers import Kandinsky3UNet

    model = Kandinsky3UNet(
        in_channels=5,
        time_embedding_dim=40,
        groups=4,
        attention_head_dim=8,
        layers_per_block=2,
        block_out_channels=(32, 48),
        cross_attention_dim=28,
        encoder_hid_dim=20,
    )
    inputs = {
        "sample": torch.randn(2, 5, 8, 12),
        "timestep": torch.tensor([3, 9]),
        "encoder_hidden_states": torch.randn(2, 7, 20),
        "encoder_attention_mask": torch.tensor([[1, 1, 1, 1, 1, 1, 1], [1, 1, 1, 1, 0, 0, 0]]),
    }
    return model, inputs


@architecture("diffusion_held_out/autoencoder_dc", held_out=True)
def autoencoder_dc() -> Built:
    """diffusers/models/autoencoders/autoencoder_dc.py: linear attention, shortcuts that average and repeat channels"""
    from diffusers import AutoencoderDC

    channels = (32, 64)
    blocks = ("ResBlock", "EfficientViTBlock")
    model = AutoencoderDC(
        in_channels=3,
        latent_channels=16,
        attention_head_dim=16,
        encoder_block_types=blocks,
        decoder_block_types=blocks,
        encoder_block_out_channels=channels,
        decoder_block_out_channels=channels,
        encoder_layers_per_block=(2, 2),
        decoder_layers_per_block=(2, 2),
        encoder_qkv_multiscales=((), (5,)),
        decoder_qkv_multiscales=((), (5,)),
    )
    return model, {"sample": torch.randn(2, 3, 16, 12)}


@architecture("diffusion_held_out/movq", held_out=True)
def movq() -> Built:
    """diffusers/models/autoencoders/vq_model.py: a codebook, and norms of the decoder conditioned on its codes"""
    from diffusers import VQModel

    model = VQModel(
        in_channels=3,
        out_channels=3,
        down_block_types=("DownEncoderBlock2D", "AttnDownEncoderBlock2D"),
        up_block_types=("AttnUpDecoderBlock2D", "UpDecoderBlock2D"),
        block_out_channels=(32, 64),
        layers_per_block=2,
        latent_channels=5,
        num_vq_embeddings=20,
        norm_num_groups=8,
        norm_type="spatial",
    )
    return model, {"sample": torch.randn(2, 3, 8, 12)}
