"""transformers: speech and audio models on raw waveforms, mel spectrograms and audio codes."""

from __future__ import annotations

from typing import Any

import torch

from architectures.registry import Built, architecture

# What the wav2vec 2.0 family shares: three convolutions turn a waveform (2, 400) into 19 frames of 36 channels.
WAVEFORM_ENCODER: dict[str, Any] = {
    "conv_dim": (20, 28, 36),
    "conv_kernel": (10, 3, 2),
    "conv_stride": (5, 2, 2),
    "num_conv_pos_embeddings": 8,
    "num_conv_pos_embedding_groups": 4,
    "hidden_size": 48,
    "intermediate_size": 112,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
}


def _waveform() -> dict[str, Any]:
    """Keywords of a call: a waveform (2, 400)."""
    return {"input_values": torch.randn(2, 400)}


@architecture("speech/wavlm", held_out=True)
def wavlm() -> Built:
    """transformers/models/wavlm/modeling_wavlm.py: gated relative positions; attention through a torch function."""
    from transformers import WavLMConfig, WavLMModel

    config = WavLMConfig(num_buckets=32, max_bucket_distance=80, **WAVEFORM_ENCODER)
    return WavLMModel(config).eval(), _waveform()


@architecture("speech/wav2vec2", held_out=True)
def wav2vec2() -> Built:
    """transformers/models/wav2vec2/modeling_wav2vec2.py: norms first and adapters in the blocks, as in MMS."""
    from transformers import Wav2Vec2Config, Wav2Vec2Model

    config = Wav2Vec2Config(
        do_stable_layer_norm=True, feat_extract_norm="layer", conv_bias=True, adapter_attn_dim=14, **WAVEFORM_ENCODER
    )
    return Wav2Vec2Model(config).eval(), _waveform()


@architecture("speech/wav2vec2_conformer", held_out=True)
def wav2vec2_conformer() -> Built:
    """transformers/models/wav2vec2_conformer/modeling_wav2vec2_conformer.py: relative positions, its default."""
    from transformers import Wav2Vec2ConformerConfig, Wav2Vec2ConformerModel

    config = Wav2Vec2ConformerConfig(conv_depthwise_kernel_size=5, max_source_positions=60, **WAVEFORM_ENCODER)
    return Wav2Vec2ConformerModel(config).eval(), _waveform()


@architecture("speech/hubert", held_out=True)
def hubert() -> Built:
    """transformers/models/hubert/modeling_hubert.py: norms last, a batch norm in the positions, a padded sample."""
    from transformers import HubertConfig, HubertModel

    mask = torch.ones(2, 400, dtype=torch.long)
    mask[1, 300:] = 0
    model = HubertModel(HubertConfig(conv_pos_batch_norm=True, **WAVEFORM_ENCODER))
    return model.eval(), {**_waveform(), "attention_mask": mask}


@architecture("speech/musicgen", held_out=True)
def musicgen() -> Built:
    """transformers/models/musicgen/modeling_musicgen.py: three codebooks (2 * 3, 11), a text of 7 states."""
    from transformers import MusicgenForCausalLM
    from transformers.models.musicgen.configuration_musicgen import MusicgenDecoderConfig

    config = MusicgenDecoderConfig(
        vocab_size=90,
        max_position_embeddings=64,
        num_hidden_layers=2,
        ffn_dim=112,
        num_attention_heads=4,
        hidden_size=48,
        num_codebooks=3,
        pad_token_id=90,
        bos_token_id=90,
    )
    example = {"input_ids": torch.randint(0, 90, (6, 11)), "encoder_hidden_states": torch.randn(2, 7, 48)}
    return MusicgenForCausalLM(config).eval(), example


@architecture("speech/audio_spectrogram_transformer", held_out=True)
def audio_spectrogram_transformer() -> Built:
    """transformers/models/audio_spectrogram_transformer/modeling_audio_spectrogram_transformer.py: a classifier."""
    from transformers import ASTConfig, ASTForAudioClassification

    config = ASTConfig(
        hidden_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=112,
        patch_size=8,
        frequency_stride=5,
        time_stride=5,
        max_length=40,
        num_mel_bins=24,
        num_labels=9,
    )
    return ASTForAudioClassification(config).eval(), {"input_values": torch.randn(2, 40, 24)}


@architecture("speech/clap_audio", held_out=True)
def clap_audio() -> Built:
    """transformers/models/clap/modeling_clap.py: its audio tower, two stages of shifted windows."""
    from transformers import ClapAudioConfig, ClapAudioModel

    config = ClapAudioConfig(
        window_size=4,
        num_mel_bins=16,
        spec_size=32,
        hidden_size=40,
        depths=[2, 2],
        num_attention_heads=[2, 4],
        num_hidden_layers=2,
        patch_embeds_hidden_size=20,
        mlp_ratio=3.0,
    )
    return ClapAudioModel(config).eval(), {"input_features": torch.randn(2, 1, 64, 16)}
