"""Text models of transformers, a second set that no rule was written for.

Language models are called with token ids and nothing else, so that masks, positions and caches are the model's own.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch

from architectures.registry import Built, architecture

held_out = partial(architecture, held_out=True)

VOCABULARY = 89


def _token_ids(length: int) -> torch.Tensor:
    """Token ids (2, length) above 4, which leaves out what configs use for padding, begin and end."""
    return torch.randint(5, VOCABULARY, (2, length))


def _tokens(length: int = 9) -> dict[str, Any]:
    return {"input_ids": _token_ids(length)}


@held_out("text_held_out/codegen")
def codegen() -> Built:
    """transformers/models/codegen: one norm for attention and feed-forward side by side; query, value, key fused."""
    from transformers import CodeGenConfig, CodeGenForCausalLM

    config = CodeGenConfig(
        vocab_size=VOCABULARY,
        n_positions=40,
        n_ctx=40,
        n_embd=48,
        n_layer=3,
        n_head=4,
        rotary_dim=6,
        n_inner=80,
        bos_token_id=1,
        eos_token_id=2,
    )
    return CodeGenForCausalLM(config).eval(), _tokens()


@held_out("text_held_out/mpt")
def mpt() -> Built:
    """transformers/models/mpt: clipped and fused queries, keys and values; the feed-forward adds its own residual."""
    from transformers import MptConfig, MptForCausalLM

    config = MptConfig(
        vocab_size=VOCABULARY, d_model=48, n_heads=4, n_layers=3, max_seq_len=40, attn_config={"clip_qkv": 6.0}
    )
    return MptForCausalLM(config).eval(), _tokens()


@held_out("text_held_out/dbrx")
def dbrx() -> Built:
    """transformers/models/dbrx: a loop over experts that slices another module's fused parameters."""
    from transformers import DbrxConfig, DbrxForCausalLM

    config = DbrxConfig(
        vocab_size=VOCABULARY,
        d_model=48,
        n_heads=4,
        n_layers=2,
        max_seq_len=40,
        attn_config={"kv_n_heads": 2, "clip_qkv": 8.0, "rope_theta": 10000.0},
        ffn_config={"ffn_hidden_size": 28, "moe_num_experts": 5, "moe_top_k": 2},
    )
    return DbrxForCausalLM(config).eval(), _tokens()


@held_out("text_held_out/llama4")
def llama4() -> Built:
    """transformers/models/llama4: scores multiply what the experts read; the second block has no rotary positions."""
    from transformers import Llama4ForCausalLM, Llama4TextConfig

    config = Llama4TextConfig(
        vocab_size=VOCABULARY,
        hidden_size=48,
        intermediate_size=28,
        intermediate_size_mlp=80,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=10,
        num_local_experts=5,
        num_experts_per_tok=2,
        moe_layers=[1, 2],
        no_rope_layers=[1, 0, 1],
        attention_chunk_size=6,
        max_position_embeddings=64,
    )
    return Llama4ForCausalLM(config).eval(), _tokens()


@held_out("text_held_out/roberta")
def roberta() -> Built:
    """transformers/models/roberta: a head of linear, GELU, norm and a decoder tied to the token table."""
    from transformers import RobertaConfig, RobertaForMaskedLM

    config = RobertaConfig(
        vocab_size=VOCABULARY,
        hidden_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=80,
        max_position_embeddings=40,
        type_vocab_size=2,
    )
    return RobertaForMaskedLM(config).eval(), _tokens()


@held_out("text_held_out/electra")
def electra() -> Built:
    """transformers/models/electra: token tables narrower than the stream, a head of two linears."""
    from transformers import ElectraConfig, ElectraForPreTraining

    config = ElectraConfig(
        vocab_size=VOCABULARY,
        embedding_size=20,
        hidden_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=80,
        max_position_embeddings=40,
    )
    return ElectraForPreTraining(config).eval(), _tokens()


@held_out("text_held_out/mobilebert")
def mobilebert() -> Built:
    """transformers/models/mobilebert: narrow blocks with three feed-forwards; scales and shifts in place of norms."""
    from transformers import MobileBertConfig, MobileBertForPreTraining

    config = MobileBertConfig(
        vocab_size=VOCABULARY,
        embedding_size=20,
        hidden_size=48,
        intra_bottleneck_size=28,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=60,
        num_feedforward_networks=3,
        max_position_embeddings=40,
    )
    return MobileBertForPreTraining(config).eval(), _tokens()


@held_out("text_held_out/funnel")
def funnel() -> Built:
    """transformers/models/funnel: attention pools its queries between blocks; a decoder on the sequence upsampled."""
    from transformers import FunnelConfig, FunnelModel

    config = FunnelConfig(
        vocab_size=VOCABULARY,
        block_sizes=[2, 1, 1],
        num_decoder_layers=2,
        d_model=48,
        n_head=4,
        d_head=10,
        d_inner=80,
    )
    return FunnelModel(config).eval(), _tokens(13)


@held_out("text_held_out/fnet")
def fnet() -> Built:
    """transformers/models/fnet: Fourier transforms in place of attention; the heads of its pre-training."""
    from transformers import FNetConfig, FNetForPreTraining

    config = FNetConfig(
        vocab_size=VOCABULARY,
        hidden_size=48,
        num_hidden_layers=3,
        intermediate_size=80,
        max_position_embeddings=40,
    )
    return FNetForPreTraining(config).eval(), _tokens()


@held_out("text_held_out/xlnet")
def xlnet() -> Built:
    """transformers/models/xlnet: an attention whose five projections are parameters of its own, in `einsum`."""
    from transformers import XLNetConfig, XLNetLMHeadModel

    config = XLNetConfig(vocab_size=VOCABULARY, d_model=48, n_layer=2, n_head=4, d_inner=80)
    return XLNetLMHeadModel(config).eval(), _tokens()


@held_out("text_held_out/rwkv")
def rwkv() -> Built:
    """transformers/models/rwkv: a recurrence per channel; gates after both branches; weights rescaled in place."""
    from transformers import RwkvConfig, RwkvForCausalLM

    config = RwkvConfig(
        vocab_size=VOCABULARY,
        context_length=40,
        hidden_size=48,
        attention_hidden_size=40,
        intermediate_size=80,
        num_hidden_layers=3,
        use_cache=False,
    )
    return RwkvForCausalLM(config).eval(), _tokens(7)


@held_out("text_held_out/switch_transformers")
def switch_transformers() -> Built:
    """transformers/models/switch_transformers: encoder and decoder, a loop over experts that are modules, one a token.

    Enough tokens that each of the two experts of a layer gets one.
    """
    from transformers import SwitchTransformersConfig, SwitchTransformersForConditionalGeneration

    config = SwitchTransformersConfig(
        vocab_size=VOCABULARY,
        d_model=48,
        d_kv=10,
        d_ff=80,
        num_layers=2,
        num_sparse_encoder_layers=1,
        num_decoder_layers=2,
        num_sparse_decoder_layers=2,
        num_heads=4,
        num_experts=2,
        decoder_start_token_id=0,
    )
    model = SwitchTransformersForConditionalGeneration(config)
    return model.eval(), {**_tokens(60), "decoder_input_ids": _token_ids(48)}


@held_out("text_held_out/jamba")
def jamba() -> Built:
    """transformers/models/jamba: state spaces with experts, attention with a dense feed-forward between them."""
    from transformers import JambaConfig, JambaForCausalLM

    config = JambaConfig(
        vocab_size=VOCABULARY,
        hidden_size=48,
        intermediate_size=60,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        attn_layer_period=3,
        attn_layer_offset=1,
        expert_layer_period=2,
        expert_layer_offset=0,
        num_experts=5,
        num_experts_per_tok=2,
        mamba_d_state=6,
        mamba_dt_rank=5,
    )
    return JambaForCausalLM(config).eval(), _tokens()
