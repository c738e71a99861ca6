"""transformers: language, speech and image models, built from small configs and called as their defaults have it.

Sizes differ from each other wherever a config allows it, so that no two layers agree in shape by accident.
"""

from __future__ import annotations

from typing import Any

import torch

from architectures.registry import Built, architecture

VOCABULARY = 131
NO_SPECIAL_TOKENS = {"pad_token_id": None, "bos_token_id": None, "eos_token_id": None}


def _tokens(length: int) -> torch.Tensor:
    """Token ids (2, length), none of them a padding token."""
    return torch.randint(3, VOCABULARY, (2, length))


def _text(length: int = 13) -> dict[str, Any]:
    """Keywords of a call: token ids and their mask, both (2, length)."""
    return {"input_ids": _tokens(length), "attention_mask": torch.ones(2, length, dtype=torch.long)}


@architecture("transformers/llama")
def llama() -> Built:
    """transformers/models/llama/modeling_llama.py: grouped queries, an output head of its own."""
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=48,
        intermediate_size=80,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=8,
        **NO_SPECIAL_TOKENS,
    )
    return LlamaForCausalLM(config).eval(), _text()


@architecture("transformers/gpt2")
def gpt2() -> Built:
    """transformers/models/gpt2/modeling_gpt2.py: transposed linears, the output head tied to the token table."""
    from transformers import GPT2Config, GPT2LMHeadModel

    config = GPT2Config(
        vocab_size=VOCABULARY, n_positions=40, n_embd=48, n_layer=3, n_head=4, n_inner=80, **NO_SPECIAL_TOKENS
    )
    return GPT2LMHeadModel(config).eval(), _text()


@architecture("transformers/bert")
def bert() -> Built:
    """transformers/models/bert/modeling_bert.py: post-norm blocks, with the pooler."""
    from transformers import BertConfig, BertModel

    config = BertConfig(
        vocab_size=VOCABULARY,
        hidden_size=48,
        num_hidden_layers=3,
        num_attention_heads=4,
        intermediate_size=80,
        max_position_embeddings=40,
    )
    text = _text()
    return BertModel(config).eval(), {**text, "token_type_ids": torch.zeros_like(text["input_ids"])}


@architecture("transformers/t5")
def t5() -> Built:
    """transformers/models/t5/modeling_t5.py: encoder and decoder with tables tied to one that is never called."""
    from transformers import T5Config, T5ForConditionalGeneration

    config = T5Config(
        vocab_size=VOCABULARY,
        d_model=48,
        d_kv=8,
        d_ff=80,
        num_layers=3,
        num_decoder_layers=2,
        num_heads=4,
        decoder_start_token_id=0,
    )
    return T5ForConditionalGeneration(config).eval(), {**_text(), "decoder_input_ids": _tokens(7)}


@architecture("transformers/whisper")
def whisper() -> Built:
    """transformers/models/whisper/modeling_whisper.py: a convolutional stem on mel frames, a text decoder."""
    from transformers import WhisperConfig, WhisperForConditionalGeneration

    config = WhisperConfig(
        vocab_size=VOCABULARY,
        num_mel_bins=20,
        d_model=48,
        encoder_layers=3,
        decoder_layers=2,
        encoder_attention_heads=4,
        decoder_attention_heads=4,
        encoder_ffn_dim=80,
        decoder_ffn_dim=112,
        max_source_positions=15,
        max_target_positions=24,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=1,
        decoder_start_token_id=2,
    )
    mel = torch.randn(2, config.num_mel_bins, 2 * config.max_source_positions)
    return WhisperForConditionalGeneration(config).eval(), {"input_features": mel, "decoder_input_ids": _tokens(7)}


@architecture("transformers/vit")
def vit() -> Built:
    """transformers/models/vit/modeling_vit.py: the classifier reads the class token after the last norm."""
    from transformers import ViTConfig, ViTForImageClassification

    config = ViTConfig(
        hidden_size=48,
        num_hidden_layers=3,
        num_attention_heads=4,
        intermediate_size=80,
        image_size=24,
        patch_size=8,
        num_labels=11,
    )
    return ViTForImageClassification(config).eval(), {"pixel_values": torch.randn(2, 3, 24, 24)}


@architecture("transformers/mixtral")
def mixtral() -> Built:
    """transformers/models/mixtral/modeling_mixtral.py: experts in 3-D parameters, two of five for each token."""
    from transformers import MixtralConfig, MixtralForCausalLM

    config = MixtralConfig(
        vocab_size=VOCABULARY,
        hidden_size=48,
        intermediate_size=80,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=8,
        num_local_experts=5,
        **NO_SPECIAL_TOKENS,
    )
    return MixtralForCausalLM(config).eval(), _text()


@architecture("transformers/qwen2_moe")
def qwen2_moe() -> Built:
    """transformers/models/qwen2_moe/modeling_qwen2_moe.py: experts in 3-D parameters beside a gated shared one."""
    from transformers import Qwen2MoeConfig, Qwen2MoeForCausalLM

    config = Qwen2MoeConfig(
        vocab_size=VOCABULARY,
        hidden_size=48,
        moe_intermediate_size=40,
        shared_expert_intermediate_size=112,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=8,
        num_experts=5,
        num_experts_per_tok=2,
        **NO_SPECIAL_TOKENS,
    )
    return Qwen2MoeForCausalLM(config).eval(), _text()


@architecture("transformers/mamba")
def mamba() -> Built:
    """transformers/models/mamba/modeling_mamba.py: parameters read beside their modules, more of them when training."""
    from transformers import MambaConfig, MambaForCausalLM

    config = MambaConfig(vocab_size=VOCABULARY, hidden_size=48, state_size=6, num_hidden_layers=3)
    return MambaForCausalLM(config).eval(), _text()
