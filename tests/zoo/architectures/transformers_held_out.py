"""Models of transformers that no rule was written for: their labels measure how the rules generalise.

Language models are called with token ids and nothing else, so that masks, positions and caches are the model's own.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch

from architectures.registry import Built, architecture

held_out = partial(architecture, held_out=True)

VOCABULARY = 97


def _token_ids(length: int) -> torch.Tensor:
    """Token ids (2, length) above 3, which leaves out what configs use for padding, begin and end."""
    return torch.randint(4, VOCABULARY, (2, length))


def _tokens(length: int = 11) -> dict[str, Any]:
    return {"input_ids": _token_ids(length)}


def _pixels(size: int) -> dict[str, Any]:
    """Keywords of a call with two square colour images: pixel values (2, 3, size, size)."""
    return {"pixel_values": torch.randn(2, 3, size, size)}


@held_out("transformers_held_out/gemma2")
def gemma2() -> Built:
    """transformers/models/gemma2: norms on both sides of every branch, soft caps, sliding and full attention."""
    from transformers import Gemma2Config, Gemma2ForCausalLM

    config = Gemma2Config(
        vocab_size=VOCABULARY,
        hidden_size=48,
        intermediate_size=80,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=10,
        sliding_window=6,
    )
    return Gemma2ForCausalLM(config).eval(), _tokens()


@held_out("transformers_held_out/phi3")
def phi3() -> Built:
    """transformers/models/phi3: one linear for queries, keys and values, one for gate and value."""
    from transformers import Phi3Config, Phi3ForCausalLM

    config = Phi3Config(
        vocab_size=VOCABULARY,
        hidden_size=48,
        intermediate_size=80,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        pad_token_id=0,
        eos_token_id=2,
    )
    return Phi3ForCausalLM(config).eval(), _tokens()


@held_out("transformers_held_out/falcon")
def falcon() -> Built:
    """transformers/models/falcon as in Falcon 40B: attention and feed-forward side by side, each with its norm."""
    from transformers import FalconConfig, FalconForCausalLM

    config = FalconConfig(
        vocab_size=VOCABULARY,
        hidden_size=48,
        ffn_hidden_size=80,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_kv_heads=2,
        new_decoder_architecture=True,
    )
    return FalconForCausalLM(config).eval(), _tokens()


@held_out("transformers_held_out/bloom")
def bloom() -> Built:
    """transformers/models/bloom: ALiBi through `baddbmm`, attention written out, residuals added in the branches."""
    from transformers import BloomConfig, BloomForCausalLM

    config = BloomConfig(vocab_size=VOCABULARY, hidden_size=48, n_layer=3, n_head=4)
    return BloomForCausalLM(config).eval(), _tokens()


@held_out("transformers_held_out/deepseek_v3")
def deepseek_v3() -> Built:
    """transformers/models/deepseek_v3: latent attention; one dense layer, then routed and shared experts."""
    from transformers import DeepseekV3Config, DeepseekV3ForCausalLM

    config = DeepseekV3Config(
        vocab_size=VOCABULARY,
        hidden_size=48,
        intermediate_size=80,
        moe_intermediate_size=20,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=4,
        n_routed_experts=8,
        n_shared_experts=2,
        num_experts_per_tok=2,
        n_group=2,
        topk_group=1,
        first_k_dense_replace=1,
        q_lora_rank=28,
        kv_lora_rank=24,
        qk_rope_head_dim=6,
        qk_nope_head_dim=10,
        v_head_dim=14,
    )
    return DeepseekV3ForCausalLM(config).eval(), _tokens()


@held_out("transformers_held_out/gpt_oss")
def gpt_oss() -> Built:
    """transformers/models/gpt_oss: fused experts with biases, attention with sinks written out."""
    from transformers import GptOssConfig, GptOssForCausalLM

    config = GptOssConfig(
        vocab_size=VOCABULARY,
        hidden_size=48,
        intermediate_size=20,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=10,
        num_local_experts=6,
        num_experts_per_tok=2,
        sliding_window=6,
    )
    return GptOssForCausalLM(config).eval(), _tokens()


@held_out("transformers_held_out/qwen3_next")
def qwen3_next() -> Built:
    """transformers/models/qwen3_next: gated delta rule and gated attention; routed experts, a gated shared expert."""
    from transformers import Qwen3NextConfig, Qwen3NextForCausalLM

    config = Qwen3NextConfig(
        vocab_size=VOCABULARY,
        hidden_size=48,
        num_hidden_layers=3,
        layer_types=["linear_attention", "full_attention", "linear_attention"],
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=16,
        linear_num_key_heads=2,
        linear_num_value_heads=4,
        linear_key_head_dim=10,
        linear_value_head_dim=14,
        num_experts=6,
        num_experts_per_tok=2,
        moe_intermediate_size=20,
        shared_expert_intermediate_size=28,
    )
    return Qwen3NextForCausalLM(config).eval(), _tokens()


@held_out("transformers_held_out/recurrent_gemma")
def recurrent_gemma() -> Built:
    """transformers/models/recurrent_gemma: two recurrent blocks, one attention; no cache, which would stay in it."""
    from transformers import RecurrentGemmaConfig, RecurrentGemmaForCausalLM

    config = RecurrentGemmaConfig(
        vocab_size=VOCABULARY,
        hidden_size=48,
        intermediate_size=160,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=1,
        lru_width=40,
        attention_window_size=6,
        use_cache=False,
    )
    return RecurrentGemmaForCausalLM(config).eval(), _tokens(7)


@held_out("transformers_held_out/modernbert")
def modernbert() -> Built:
    """transformers/models/modernbert: the first layer has no attention norm; gated feed-forward from one linear."""
    from transformers import ModernBertConfig, ModernBertModel

    config = ModernBertConfig(
        vocab_size=VOCABULARY,
        hidden_size=48,
        intermediate_size=80,
        num_hidden_layers=3,
        num_attention_heads=4,
        local_attention=6,
        pad_token_id=0,
        bos_token_id=1,
        cls_token_id=1,
        eos_token_id=2,
        sep_token_id=2,
    )
    return ModernBertModel(config).eval(), _tokens()


@held_out("transformers_held_out/deberta_v2")
def deberta_v2() -> Built:
    """transformers/models/deberta_v2 as in DeBERTa-v2 xlarge: positions through the query and key linears, a conv."""
    from transformers import DebertaV2Config, DebertaV2Model

    config = DebertaV2Config(
        vocab_size=VOCABULARY,
        hidden_size=48,
        intermediate_size=80,
        num_hidden_layers=3,
        num_attention_heads=4,
        max_position_embeddings=40,
        relative_attention=True,
        position_buckets=7,
        norm_rel_ebd="layer_norm",
        share_att_key=True,
        pos_att_type="p2c|c2p",
        position_biased_input=False,
        conv_kernel_size=3,
        conv_act="gelu",
    )
    return DebertaV2Model(config).eval(), _tokens()


@held_out("transformers_held_out/albert")
def albert() -> Built:
    """transformers/models/albert: one group of two layers, run three times; token tables narrower than the stream."""
    from transformers import AlbertConfig, AlbertModel

    config = AlbertConfig(
        vocab_size=VOCABULARY,
        embedding_size=20,
        hidden_size=48,
        intermediate_size=80,
        num_hidden_layers=3,
        inner_group_num=2,
        num_attention_heads=4,
        max_position_embeddings=40,
    )
    return AlbertModel(config).eval(), _tokens()


@held_out("transformers_held_out/bart")
def bart() -> Built:
    """transformers/models/bart: encoder and decoder with norms after the residuals, token tables of one weight."""
    from transformers import BartConfig, BartForConditionalGeneration

    config = BartConfig(
        vocab_size=VOCABULARY,
        d_model=48,
        encoder_layers=2,
        decoder_layers=3,
        encoder_attention_heads=4,
        decoder_attention_heads=3,
        encoder_ffn_dim=80,
        decoder_ffn_dim=72,
        max_position_embeddings=40,
    )
    return BartForConditionalGeneration(config).eval(), {**_tokens(), "decoder_input_ids": _token_ids(7)}


@held_out("transformers_held_out/clip")
def clip() -> Built:
    """transformers/models/clip: two towers, returned with their projections and the similarities of both."""
    from transformers import CLIPConfig, CLIPModel

    text = {
        "vocab_size": VOCABULARY,
        "hidden_size": 48,
        "intermediate_size": 80,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "max_position_embeddings": 20,
        "bos_token_id": 0,
        "eos_token_id": VOCABULARY - 1,
    }
    vision = {
        "hidden_size": 40,
        "intermediate_size": 72,
        "num_hidden_layers": 3,
        "num_attention_heads": 2,
        "image_size": 24,
        "patch_size": 8,
    }
    config = CLIPConfig(text_config=text, vision_config=vision, projection_dim=28)
    return CLIPModel(config).eval(), {**_tokens(), **_pixels(24)}


@held_out("transformers_held_out/swin")
def swin() -> Built:
    """transformers/models/swin: shifted windows, a table of position biases that starts at zero, patch merging."""
    from transformers import SwinConfig, SwinModel

    config = SwinConfig(
        image_size=32, patch_size=4, embed_dim=32, depths=[2, 2], num_heads=[2, 4], window_size=4, mlp_ratio=1.5
    )
    return SwinModel(config).eval(), _pixels(32)


@held_out("transformers_held_out/convnextv2")
def convnextv2() -> Built:
    """transformers/models/convnextv2: no attention; global response norms that start at zero."""
    from transformers import ConvNextV2Config, ConvNextV2Model

    config = ConvNextV2Config(num_stages=3, hidden_sizes=[16, 24, 40], depths=[2, 2, 1], patch_size=4)
    return ConvNextV2Model(config).eval(), _pixels(32)


@held_out("transformers_held_out/segformer")
def segformer() -> Built:
    """transformers/models/segformer: keys and values of a shrunk image, convolution in the feed-forward, a decoder."""
    from transformers import SegformerConfig, SegformerForSemanticSegmentation

    config = SegformerConfig(
        num_encoder_blocks=3,
        depths=[2, 1, 2],
        sr_ratios=[4, 2, 1],
        hidden_sizes=[16, 24, 40],
        patch_sizes=[7, 3, 3],
        strides=[4, 2, 2],
        num_attention_heads=[1, 2, 4],
        mlp_ratios=[2, 2, 3],
        decoder_hidden_size=28,
        num_labels=5,
    )
    return SegformerForSemanticSegmentation(config).eval(), _pixels(64)


@held_out("transformers_held_out/timesformer")
def timesformer() -> Built:
    """transformers/models/timesformer: attention over time, then over space; a table of times that starts at zero."""
    from transformers import TimesformerConfig, TimesformerModel

    config = TimesformerConfig(
        image_size=24,
        patch_size=8,
        num_frames=4,
        hidden_size=48,
        intermediate_size=80,
        num_hidden_layers=2,
        num_attention_heads=4,
    )
    return TimesformerModel(config).eval(), {"pixel_values": torch.randn(2, 4, 3, 24, 24)}


@held_out("transformers_held_out/dinov2")
def dinov2() -> Built:
    """transformers/models/dinov2: a learned scale per channel at the end of every branch."""
    from transformers import Dinov2Config, Dinov2Model

    config = Dinov2Config(
        hidden_size=48, num_hidden_layers=3, num_attention_heads=4, mlp_ratio=3, image_size=24, patch_size=8
    )
    return Dinov2Model(config).eval(), _pixels(24)
