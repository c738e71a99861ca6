"""Held out: models of packages other than transformers and diffusers, and torch's own.

x_transformers and voxcpm write their layers in other ways: einsum strings, norms that wrap norms, lambdas, scripted
activations, methods beside forward, residual streams in several copies.
"""

from __future__ import annotations

import torch
from torch import nn

from architectures.registry import Built, architecture


@architecture("packages_held_out/x_transformers_decoder", held_out=True)
def x_transformers_decoder() -> Built:
    """x_transformers/x_transformers.py: rotary, gated values, queries and keys normed by head, the token table tied"""
    from x_transformers import Decoder, TransformerWrapper

    layers = Decoder(
        dim=48,
        depth=2,
        heads=4,
        attn_dim_head=16,
        attn_kv_heads=2,
        attn_qk_rmsnorm=True,
        attn_gate_values=True,
        rotary_pos_emb=True,
        use_rmsnorm=True,
        ff_glu=True,
        ff_swish=True,
        ff_mult=2.5,
        verbose=False,
    )
    model = TransformerWrapper(
        num_tokens=50, max_seq_len=32, attn_layers=layers, tie_embedding=True, add_continuous_pred_head=True
    )
    return model.eval(), {"x": torch.randint(0, 50, (2, 11))}


@architecture("packages_held_out/x_transformers_macaron", held_out=True)
def x_transformers_macaron() -> Built:
    """x_transformers/x_transformers.py: two half feed-forwards a block, sandwich norms, talking heads, head gates"""
    from x_transformers import Decoder, TransformerWrapper

    layers = Decoder(
        dim=48,
        depth=2,
        heads=4,
        attn_dim_head=10,
        macaron=True,
        sandwich_norm=True,
        scale_residual=True,
        dynamic_pos_bias=True,
        attn_pre_talking_heads=True,
        attn_post_talking_heads=True,
        attn_gate_value_heads=True,
        ff_relu_squared=True,
        ff_post_act_ln=True,
        ff_mult=3,
    )
    model = TransformerWrapper(num_tokens=50, max_seq_len=32, attn_layers=layers, emb_dim=20, post_emb_norm=True)
    return model.eval(), {"x": torch.randint(0, 50, (2, 11))}


@architecture("packages_held_out/x_transformers_adaptive", held_out=True)
def x_transformers_adaptive() -> Built:
    """x_transformers/x_transformers.py: norms scaled and branches gated by a condition, through one shared layer"""
    from x_transformers import ContinuousTransformerWrapper, Encoder

    layers = Encoder(
        dim=32,
        depth=2,
        heads=4,
        attn_dim_head=10,
        use_adaptive_layernorm=True,
        use_adaptive_layerscale=True,
        dim_condition=12,
        adaptive_condition_mlp=True,
        adaptive_condition_mlp_expansion=2,
        ff_mult=3,
    )
    model = ContinuousTransformerWrapper(dim_in=7, dim_out=5, max_seq_len=16, attn_layers=layers)
    return model.eval(), {"x": torch.randn(2, 9, 7), "condition": torch.randn(2, 12)}


@architecture("packages_held_out/x_transformers_cross", held_out=True)
def x_transformers_cross() -> Built:
    """x_transformers/x_transformers.py: latent queries and keys, attention to a context, memory tokens, two heads"""
    from x_transformers import Decoder, TransformerWrapper

    layers = Decoder(
        dim=48,
        depth=2,
        heads=4,
        attn_dim_head=16,
        cross_attend=True,
        cross_attn_dim_context=20,
        cross_attn_use_latent_q=False,
        cross_attn_use_latent_kv=False,
        attn_use_latent_q=True,
        attn_dim_latent_q=14,
        attn_use_latent_kv=True,
        attn_dim_latent_kv=18,
        use_scalenorm=True,
        ff_mult=3,
    )
    model = TransformerWrapper(
        num_tokens=50, max_seq_len=32, attn_layers=layers, num_memory_tokens=3, num_output_heads=2, logits_dim=30
    )
    return model.eval(), {"x": torch.randint(0, 50, (2, 11)), "context": torch.randn(2, 7, 20)}


@architecture("packages_held_out/x_transformers_vit", held_out=True)
def x_transformers_vit() -> Built:
    """x_transformers/x_transformers.py: norms without parameters, branches that start at zero, a skip like a U-Net's"""
    from x_transformers import Encoder, ViTransformerWrapper

    layers = Encoder(
        dim=40,
        depth=2,
        heads=4,
        attn_dim_head=12,
        attn_on_attn=True,
        use_simple_rmsnorm=True,
        use_layerscale=True,
        norm_add_unit_offset=False,
        unet_skips=True,
        ff_mult=3,
    )
    model = ViTransformerWrapper(
        image_size=12, patch_size=4, attn_layers=layers, num_classes=7, num_register_tokens=2, post_emb_norm=True
    )
    return model.eval(), {"img": torch.randn(2, 3, 12, 12)}


@architecture("packages_held_out/x_transformers_streams", held_out=True)
def x_transformers_streams() -> Built:
    """x_transformers/x_transformers.py: three copies of the residual stream, mixed before and after each branch"""
    from x_transformers import Encoder

    model = Encoder(dim=32, depth=2, heads=4, attn_dim_head=10, num_residual_streams=3, ff_mult=3)
    return model.eval(), {"x": torch.randn(2, 9, 32)}


@architecture("packages_held_out/neo_mlp", held_out=True)
def neo_mlp() -> Built:
    """x_transformers/neo_mlp.py: numbers as tokens, read out by the root's own weights"""
    from x_transformers import NeoMLP

    model = NeoMLP(dim_in=5, dim_hidden=6, dim_out=3, dim_model=32, depth=2)
    return model.eval(), {"x": torch.randn(2, 5)}


@architecture("packages_held_out/voxcpm_local_encoder", held_out=True)
def voxcpm_local_encoder() -> Built:
    """voxcpm/modules/locenc/local_encoder.py: patches of latents, each read by the state of one learned token"""
    from voxcpm.modules.locenc import VoxCPMLocEnc
    from voxcpm.modules.minicpm4 import MiniCPM4Config

    frequencies = [1.0] * 6  # half of the head's 12
    config = MiniCPM4Config(
        bos_token_id=1,
        eos_token_id=2,
        hidden_size=40,
        intermediate_size=88,
        max_position_embeddings=64,
        num_attention_heads=4,
        num_hidden_layers=2,
        num_key_value_heads=2,
        kv_channels=12,
        rms_norm_eps=1e-5,
        rope_theta=1e4,
        rope_scaling={
            "type": "longrope",
            "long_factor": frequencies,
            "short_factor": frequencies,
            "original_max_position_embeddings": 64,
        },
        vocab_size=0,
        scale_emb=1,
        dim_model_base=64,
        scale_depth=1.4,
    )
    return VoxCPMLocEnc(config, input_dim=9).eval(), {"x": torch.randn(2, 3, 5, 9)}


@architecture("packages_held_out/voxcpm_audio_encoder", held_out=True)
def voxcpm_audio_encoder() -> Built:
    """voxcpm/modules/audiovae/audio_vae.py: causal convolutions to the mean and the deviation of latents"""
    from voxcpm.modules.audiovae.audio_vae import CausalEncoder

    return CausalEncoder(d_model=8, latent_dim=6, strides=[2, 3]).eval(), {"x": torch.randn(2, 1, 48)}


@architecture("packages_held_out/voxcpm_audio_decoder", held_out=True)
def voxcpm_audio_decoder() -> Built:
    """voxcpm/modules/audiovae/audio_vae_v2.py: latents to a waveform, scaled by tables of its sample rate"""
    from voxcpm.modules.audiovae.audio_vae_v2 import CausalDecoder

    model = CausalDecoder(
        input_channel=6, channels=16, rates=[3, 2], use_noise_block=True, sr_bin_boundaries=[20000, 30000]
    )
    return model.eval(), {"x": torch.randn(2, 6, 7), "sr_cond": torch.tensor([16000, 44100])}


@architecture("packages_held_out/torch_transformer", held_out=True)
def torch_transformer() -> Built:
    """torch/nn/modules/transformer.py: encoder and decoder as built by default, positions first"""
    model = nn.Transformer(48, nhead=4, num_encoder_layers=2, num_decoder_layers=2, dim_feedforward=80)
    return model.eval(), {"src": torch.randn(13, 2, 48), "tgt": torch.randn(7, 2, 48)}


@architecture("packages_held_out/torch_transformer_decoder", held_out=True)
def torch_transformer_decoder() -> Built:
    """torch/nn/modules/transformer.py: norms before each branch and none after the last"""
    layer = nn.TransformerDecoderLayer(48, nhead=4, dim_feedforward=80, batch_first=True, norm_first=True)
    model = nn.TransformerDecoder(layer, num_layers=2)
    return model.eval(), {"tgt": torch.randn(2, 7, 48), "memory": torch.randn(2, 13, 48)}
