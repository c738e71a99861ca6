"""transformers: models of speech, audio codes and time series that no rule was written for."""

from __future__ import annotations

from functools import partial

import torch

from architectures.registry import Built, architecture

held_out = partial(architecture, held_out=True)


@held_out("audio_held_out/vits")
def vits() -> Built:
    """transformers/models/vits/modeling_vits.py: text to waveform by flows run backwards; no speaker is named."""
    from transformers import VitsConfig, VitsModel

    config = VitsConfig(
        vocab_size=38,
        hidden_size=24,
        num_hidden_layers=2,
        num_attention_heads=2,
        ffn_dim=40,
        flow_size=20,
        spectrogram_bins=33,
        num_speakers=3,
        speaker_embedding_size=12,
        upsample_initial_channel=32,
        upsample_rates=[4, 2],
        upsample_kernel_sizes=[8, 4],
        resblock_kernel_sizes=[3, 5],
        resblock_dilation_sizes=[[1, 3], [1, 3]],
        depth_separable_num_layers=2,
        duration_predictor_num_flows=2,
        prior_encoder_num_flows=2,
        prior_encoder_num_wavenet_layers=2,
        posterior_encoder_num_wavenet_layers=2,
        noise_scale_duration=0.0,  # lengths that are the same in every call
    )
    return VitsModel(config).eval(), {"input_ids": torch.randint(1, 38, (2, 9))}


@held_out("audio_held_out/univnet")
def univnet() -> Built:
    """transformers/models/univnet/modeling_univnet.py: a vocoder whose convolutions take computed kernels."""
    from transformers import UnivNetConfig, UnivNetModel

    config = UnivNetConfig(
        model_in_channels=20,
        model_hidden_channels=12,
        num_mel_bins=16,
        resblock_kernel_sizes=[3, 3],
        resblock_stride_sizes=[4, 2],
        resblock_dilation_sizes=[[1, 3], [1, 3]],
        kernel_predictor_num_blocks=2,
        kernel_predictor_hidden_channels=20,
    )
    example = {"input_features": torch.randn(2, 11, 16), "noise_sequence": torch.randn(2, 11, 20)}
    return UnivNetModel(config).eval(), example


@held_out("audio_held_out/fastspeech2_conformer")
def fastspeech2_conformer() -> Built:
    """transformers/models/fastspeech2_conformer/modeling_fastspeech2_conformer.py: predicted pitch, energy, lengths."""
    from transformers import FastSpeech2ConformerConfig, FastSpeech2ConformerModel

    config = FastSpeech2ConformerConfig(
        hidden_size=32,
        vocab_size=40,
        num_mel_bins=12,
        encoder_layers=2,
        encoder_num_attention_heads=2,
        encoder_linear_units=56,
        encoder_kernel_size=5,
        decoder_layers=2,
        decoder_num_attention_heads=4,
        decoder_linear_units=72,
        decoder_kernel_size=7,
        speech_decoder_postnet_layers=3,
        speech_decoder_postnet_units=20,
        duration_predictor_channels=24,
        energy_predictor_channels=28,
        pitch_predictor_channels=36,
        pitch_predictor_layers=3,
    )
    return FastSpeech2ConformerModel(config).eval(), {"input_ids": torch.randint(1, 40, (2, 9))}


@held_out("audio_held_out/speecht5")
def speecht5() -> Built:
    """transformers/models/speecht5/modeling_speecht5.py: text to mel spectrogram, in the voice of an embedding."""
    from transformers import SpeechT5Config, SpeechT5ForTextToSpeech

    config = SpeechT5Config(
        vocab_size=40,
        hidden_size=48,
        encoder_layers=2,
        encoder_attention_heads=4,
        encoder_ffn_dim=80,
        decoder_layers=3,
        decoder_attention_heads=3,
        decoder_ffn_dim=72,
        num_mel_bins=12,
        speech_decoder_prenet_units=28,
        speaker_embedding_dim=20,
        speech_decoder_postnet_layers=3,
        speech_decoder_postnet_units=36,
        max_speech_positions=30,
        max_text_positions=40,
        encoder_max_relative_position=8,
    )
    example = {
        "input_ids": torch.randint(4, 40, (2, 11)),
        "decoder_input_values": torch.randn(2, 7, 12),
        "speaker_embeddings": torch.randn(2, 20),
    }
    return SpeechT5ForTextToSpeech(config).eval(), example


@held_out("audio_held_out/moshi_depth")
def moshi_depth() -> Built:
    """transformers/models/moshi/modeling_moshi.py: the depth decoder, a weight for each codebook in every linear."""
    from transformers.models.moshi.configuration_moshi import MoshiDepthConfig
    from transformers.models.moshi.modeling_moshi import MoshiDepthDecoder

    config = MoshiDepthConfig(
        vocab_size=60,
        audio_vocab_size=50,
        hidden_size=32,
        input_size=40,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_codebooks=5,
        ffn_dim=72,
        max_position_embeddings=6,
    )
    example = {"input_ids": torch.randint(0, 50, (2, 5)), "last_hidden_state": torch.randn(2, 5, 40)}
    return MoshiDepthDecoder(config).eval(), example


@held_out("audio_held_out/wav2vec2_bert")
def wav2vec2_bert() -> Built:
    """transformers/models/wav2vec2_bert/modeling_wav2vec2_bert.py: a conformer, then adapters that shorten it."""
    from transformers import Wav2Vec2BertConfig, Wav2Vec2BertModel

    config = Wav2Vec2BertConfig(
        hidden_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=80,
        feature_projection_input_dim=20,
        conv_depthwise_kernel_size=5,
        left_max_position_embeddings=6,
        right_max_position_embeddings=3,
        add_adapter=True,
        num_adapter_layers=2,
        output_hidden_size=32,
    )
    return Wav2Vec2BertModel(config).eval(), {"input_features": torch.randn(2, 19, 20)}


@held_out("audio_held_out/patchtst")
def patchtst() -> Built:
    """transformers/models/patchtst/modeling_patchtst.py: three series, attention over time and over the series."""
    from transformers import PatchTSTConfig, PatchTSTForPrediction

    config = PatchTSTConfig(
        num_input_channels=3,
        context_length=32,
        patch_length=6,
        patch_stride=4,
        num_hidden_layers=2,
        d_model=24,
        num_attention_heads=4,
        ffn_dim=40,
        share_embedding=False,
        channel_attention=True,
        use_cls_token=True,
        loss="nll",
        prediction_length=10,
    )
    return PatchTSTForPrediction(config).eval(), {"past_values": torch.randn(2, 32, 3)}
