"""Every 40th of transformers' models: a sample that nobody chose, labelled after the rules were frozen.

The rule: of the names of `transformers.models.auto.modeling_auto.MODEL_MAPPING_NAMES` (605 in transformers 5.23.0),
every 40th from the first, each as its model with a head where it has one. Left out as near copies of what is labelled
already: ijepa (vit), roberta-prelayernorm (roberta), splinter (bert).
"""

from __future__ import annotations

from functools import partial

import torch

from architectures.registry import Built, architecture

held_out = partial(architecture, held_out=True)

VOCABULARY = 83

# settings of a small ParakeetEncoderConfig, which parakeet and canary share
CONFORMER = {
    "hidden_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 80,
    "conv_kernel_size": 5,
    "subsampling_factor": 4,
    "subsampling_conv_channels": 12,
    "num_mel_bins": 20,
    "max_position_embeddings": 64,
}


def _token_ids(length: int) -> torch.Tensor:
    """Token ids (2, length) above 5, which leaves out what configs use for padding, begin and end."""
    return torch.randint(6, VOCABULARY, (2, length))


@held_out("sampled_held_out/afmoe")
def afmoe() -> Built:
    """transformers/models/afmoe: a gate on the attention's result, norms on both sides, a router of zeros."""
    from transformers import AfmoeConfig, AfmoeForCausalLM

    config = AfmoeConfig(
        vocab_size=VOCABULARY,
        hidden_size=48,
        intermediate_size=80,
        moe_intermediate_size=20,
        num_hidden_layers=3,
        num_dense_layers=1,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=10,
        num_experts=6,
        num_experts_per_tok=2,
        num_shared_experts=2,
        global_attn_every_n_layers=3,
        sliding_window=6,
    )
    return AfmoeForCausalLM(config).eval(), {"input_ids": _token_ids(9)}


@held_out("sampled_held_out/gptj")
def gptj() -> Built:
    """transformers/models/gptj: one norm for attention and feed-forward, added together to the stream."""
    from transformers import GPTJConfig, GPTJForCausalLM

    config = GPTJConfig(
        vocab_size=VOCABULARY,
        n_positions=40,
        n_embd=48,
        n_layer=3,
        n_head=4,
        n_inner=80,
        rotary_dim=6,
        bos_token_id=1,
        eos_token_id=2,
    )
    return GPTJForCausalLM(config).eval(), {"input_ids": _token_ids(9)}


@held_out("sampled_held_out/minimax_m2")
def minimax_m2() -> Built:
    """transformers/models/minimax_m2: norms over all heads, experts in every layer, routed by sigmoid and a buffer."""
    from transformers import MiniMaxM2Config, MiniMaxM2ForCausalLM

    config = MiniMaxM2Config(
        vocab_size=VOCABULARY,
        hidden_size=48,
        intermediate_size=20,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=10,
        num_local_experts=6,
        num_experts_per_tok=2,
        bos_token_id=1,
        eos_token_id=2,
    )
    return MiniMaxM2ForCausalLM(config).eval(), {"input_ids": _token_ids(9)}


@held_out("sampled_held_out/canary")
def canary() -> Built:
    """transformers/models/canary: a conformer that shortens mel features, a decoder with cross attention."""
    from transformers import CanaryConfig, CanaryForConditionalGeneration

    config = CanaryConfig(
        encoder_config={"model_type": "parakeet_encoder", **CONFORMER},
        decoder_config={
            "vocab_size": VOCABULARY,
            "hidden_size": 48,
            "intermediate_size": 72,
            "num_hidden_layers": 2,
            "num_attention_heads": 3,
            "num_key_value_heads": 3,
            "head_dim": 14,
            "max_position_embeddings": 40,
        },
        vocab_size=VOCABULARY,
    )
    call = {"input_features": torch.randn(2, 37, 20), "decoder_input_ids": _token_ids(7)}
    return CanaryForConditionalGeneration(config).eval(), call


@held_out("sampled_held_out/encodec")
def encodec() -> Built:
    """transformers/models/encodec: convolutions with weight norm and an LSTM around codes that buffers hold."""
    from transformers import EncodecConfig, EncodecModel

    config = EncodecConfig(
        target_bandwidths=[24.0],
        hidden_size=20,
        num_filters=8,
        upsampling_ratios=[4, 2],
        codebook_size=16,
        codebook_dim=20,
        num_lstm_layers=1,
    )
    return EncodecModel(config).eval(), {"input_values": torch.randn(2, 1, 96)}


@held_out("sampled_held_out/parakeet_rnnt")
def parakeet_rnnt() -> Built:
    """transformers/models/parakeet: a conformer and an LSTM over tokens, every state of each summed with each."""
    from transformers import ParakeetForRNNT, ParakeetRNNTConfig

    config = ParakeetRNNTConfig(
        vocab_size=VOCABULARY,
        blank_token_id=VOCABULARY - 1,
        decoder_hidden_size=28,
        num_decoder_layers=2,
        encoder_config=CONFORMER,
    )
    call = {"input_features": torch.randn(2, 37, 20), "decoder_input_ids": _token_ids(5)}
    return ParakeetForRNNT(config).eval(), call


@held_out("sampled_held_out/vibevoice_acoustic_tokenizer_encoder")
def vibevoice_acoustic_tokenizer_encoder() -> Built:
    """transformers/models/vibevoice_acoustic_tokenizer: a waveform shortened by blocks of one-dimensional ConvNeXt."""
    from transformers import AutoModel
    from transformers.models.vibevoice_acoustic_tokenizer import VibeVoiceAcousticTokenizerEncoderConfig

    config = VibeVoiceAcousticTokenizerEncoderConfig(
        hidden_size=20,
        kernel_size=5,
        num_filters=12,
        downsampling_ratios=[2, 4],
        depths=[2, 2, 2],
        ffn_expansion=3,
    )
    return AutoModel.from_config(config).eval(), {"hidden_states": torch.randn(2, 1, 64)}


@held_out("sampled_held_out/lightglue")
def lightglue() -> Built:
    """transformers/models/lightglue on superpoint: matches the points of two images; neither stops early nor prunes."""
    from transformers import LightGlueConfig, LightGlueForKeypointMatching, SuperPointConfig

    detector = SuperPointConfig(
        encoder_hidden_sizes=[8, 12, 16, 20],
        decoder_hidden_size=28,
        descriptor_decoder_dim=36,
        max_keypoints=20,
    )
    config = LightGlueConfig(
        keypoint_detector_config=detector,
        descriptor_dim=48,
        num_hidden_layers=3,
        num_attention_heads=4,
        depth_confidence=-1.0,
        width_confidence=-1.0,
    )
    return LightGlueForKeypointMatching(config).eval(), {"pixel_values": torch.rand(2, 2, 3, 32, 40)}


@held_out("sampled_held_out/yoso")
def yoso() -> Built:
    """transformers/models/yoso: pairwise scores without a softmax, a convolution of the values added."""
    from transformers import YosoConfig, YosoForMaskedLM

    config = YosoConfig(
        vocab_size=VOCABULARY,
        hidden_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=80,
        max_position_embeddings=40,
        conv_window=5,
    )
    return YosoForMaskedLM(config).eval(), {"input_ids": _token_ids(11)}


@held_out("sampled_held_out/gemma4_audio")
def gemma4_audio() -> Built:
    """transformers/models/gemma4: a conformer with attention in chunks, its linears inside modules that clamp."""
    from transformers import AutoModel
    from transformers.models.gemma4 import Gemma4AudioConfig

    config = Gemma4AudioConfig(
        hidden_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        subsampling_conv_channels=[16, 12],
        attention_chunk_size=4,
        attention_context_left=5,
        output_proj_dims=28,
    )
    return AutoModel.from_config(config).eval(), {"input_features": torch.randn(2, 45, 16)}


@held_out("sampled_held_out/qianfan_ocr_vision")
def qianfan_ocr_vision() -> Built:
    """transformers/models/qianfan_ocr: scaled branches, normed queries and keys; token and positions of zeros."""
    from transformers import AutoModel
    from transformers.models.qianfan_ocr import QianfanOCRVisionConfig

    config = QianfanOCRVisionConfig(
        hidden_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=80,
        use_qk_norm=True,
        image_size=[24, 24],
        patch_size=[8, 8],
    )
    return AutoModel.from_config(config).eval(), {"pixel_values": torch.randn(2, 3, 24, 24)}


@held_out("sampled_held_out/muse_spark_text")
def muse_spark_text() -> Built:
    """transformers/models/muse_spark: experts between two projections, sums with the stream that a parameter weighs."""
    from transformers import AutoModel
    from transformers.models.muse_spark import MuseSparkTextConfig

    config = MuseSparkTextConfig(
        vocab_size=VOCABULARY,
        hidden_size=48,
        intermediate_size=80,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=10,
        moe_hidden_size=36,
        moe_intermediate_size=20,
        num_local_experts=6,
        num_experts_per_tok=2,
        mlp_layer_types=["dense", "sparse", "sparse"],
        sliding_window=6,
        bos_token_id=1,
        eos_token_id=2,
    )
    return AutoModel.from_config(config).eval(), {"input_ids": _token_ids(9)}


@held_out("sampled_held_out/deberta")
def deberta() -> Built:
    """transformers/models/deberta: positions with projections of their own; another path reads one linear's weight."""
    from transformers import DebertaConfig, DebertaForMaskedLM

    config = DebertaConfig(
        vocab_size=VOCABULARY,
        hidden_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=80,
        max_position_embeddings=40,
        relative_attention=True,
        pos_att_type=["c2p", "p2c"],
        position_biased_input=False,
    )
    return DebertaForMaskedLM(config).eval(), {"input_ids": _token_ids(11)}
