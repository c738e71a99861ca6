"""Text models of transformers that no rule was written for, and one of states and actions; `text_held_out` has more."""

from __future__ import annotations

from functools import partial

import torch

from architectures.registry import Built, architecture

held_out = partial(architecture, held_out=True)

VOCABULARY = 89


def _token_ids(length: int) -> torch.Tensor:
    """Token ids (2, length) above 4, which leaves out what configs use for padding, begin and end."""
    return torch.randint(5, VOCABULARY, (2, length))


@held_out("text_held_out/zamba2")
def zamba2() -> Built:
    """transformers/models/zamba2: one attention block of tied copies, each with adapters of which it calls its own."""
    from transformers import Zamba2Config, Zamba2ForCausalLM

    config = Zamba2Config(
        vocab_size=VOCABULARY,
        hidden_size=32,
        intermediate_size=72,
        num_hidden_layers=4,
        layers_block_type=["linear_attention", "hybrid", "linear_attention", "hybrid"],
        num_attention_heads=4,
        use_shared_attention_adapter=True,
        adapter_rank=6,
        use_mem_rope=True,
        mamba_d_state=10,
        mamba_expand=3,
        n_mamba_heads=4,
        chunk_size=4,
        max_position_embeddings=64,
    )
    return Zamba2ForCausalLM(config).eval(), {"input_ids": _token_ids(9)}


@held_out("text_held_out/nystromformer")
def nystromformer() -> Built:
    """transformers/models/nystromformer: attention through landmarks, a convolution of the values added to it."""
    from transformers import NystromformerConfig, NystromformerForQuestionAnswering

    config = NystromformerConfig(
        vocab_size=VOCABULARY,
        hidden_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=80,
        max_position_embeddings=40,
        num_landmarks=4,
        segment_means_seq_len=12,
        conv_kernel_size=5,
    )
    return NystromformerForQuestionAnswering(config).eval(), {"input_ids": _token_ids(12)}


@held_out("text_held_out/decision_transformer")
def decision_transformer() -> Built:
    """transformers/models/decision_transformer: three inputs interleaved as tokens, a head for each."""
    from transformers import DecisionTransformerConfig, DecisionTransformerModel

    config = DecisionTransformerConfig(
        state_dim=11,
        act_dim=5,
        hidden_size=48,
        max_ep_len=40,
        n_layer=3,
        n_head=4,
        n_inner=80,
        vocab_size=VOCABULARY,
        n_positions=64,
        bos_token_id=1,
        eos_token_id=2,
    )
    trajectory = {
        "states": torch.randn(2, 7, 11),
        "actions": torch.randn(2, 7, 5),
        "rewards": torch.randn(2, 7, 1),
        "returns_to_go": torch.randn(2, 7, 1),
        "timesteps": torch.arange(7).expand(2, 7),
        "attention_mask": torch.ones(2, 7, dtype=torch.long),
    }
    return DecisionTransformerModel(config).eval(), trajectory


@held_out("text_held_out/prophetnet")
def prophetnet() -> Built:
    """transformers/models/prophetnet: streams that predict further ahead, started from a table read by its weight."""
    from transformers import ProphetNetConfig, ProphetNetForConditionalGeneration

    config = ProphetNetConfig(
        vocab_size=VOCABULARY,
        hidden_size=48,
        encoder_ffn_dim=80,
        num_encoder_layers=2,
        num_encoder_attention_heads=4,
        decoder_ffn_dim=72,
        num_decoder_layers=2,
        num_decoder_attention_heads=3,
        max_position_embeddings=40,
        num_buckets=8,
        relative_max_distance=20,
    )
    model = ProphetNetForConditionalGeneration(config)
    return model.eval(), {"input_ids": _token_ids(9), "decoder_input_ids": _token_ids(7)}
