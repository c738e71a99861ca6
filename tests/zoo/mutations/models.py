"""The models whose source is mutated: small, each by a spec, and the modules of its package that are made anew."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Subject:
    """`modules` hold the model's source, in the order in which they import from each other."""

    modules: tuple[str, ...]
    spec: str


F5_TTS = Subject(
    ("f5_tts.model.modules", "f5_tts.model.backbones.dit"),
    """
    model f5_tts.model.backbones.dit:DiT {
      dim = 48  depth = 2  heads = 4  dim_head = 8  ff_mult = 3  text_dim = 36  conv_layers = 2
    }
    inputs { x = f32[2, 64, 100]  cond = f32[2, 64, 100]  text = i64[2, 20] < 10  time = f32[2] }
    """,
)

DIT = Subject(
    (
        "diffusers.models.normalization",
        "diffusers.models.attention_processor",
        "diffusers.models.attention",
        "diffusers.models.transformers.dit_transformer_2d",
    ),
    """
    model diffusers.models.transformers.dit_transformer_2d:DiTTransformer2DModel {
      num_attention_heads = 3  attention_head_dim = 16  in_channels = 4  out_channels = 8
      num_layers = 2  sample_size = 16  num_embeds_ada_norm = 10
    }
    inputs { hidden_states = f32[2, 4, 16, 16]  timestep = i64[2] < 1000  class_labels = i64[2] < 10 }
    """,
)

FLUX = Subject(
    ("diffusers.models.normalization", "diffusers.models.transformers.transformer_flux"),
    """
    model diffusers.models.transformers.transformer_flux:FluxTransformer2DModel {
      in_channels = 12  num_layers = 2  num_single_layers = 2  attention_head_dim = 16  num_attention_heads = 3
      joint_attention_dim = 40  pooled_projection_dim = 28  axes_dims_rope = [4, 6, 6]
    }
    inputs {
      hidden_states = f32[2, 20, 12]  encoder_hidden_states = f32[2, 7, 40]  pooled_projections = f32[2, 28]
      timestep = f32[2]  img_ids = f32[20, 3]  txt_ids = f32[7, 3]
    }
    """,
)

LLAMA = Subject(
    ("transformers.models.llama.modeling_llama",),
    """
    model transformers.models.llama.modeling_llama:LlamaForCausalLM {
      config = transformers:LlamaConfig {
        vocab_size = 131  hidden_size = 48  intermediate_size = 80  num_hidden_layers = 2
        num_attention_heads = 4  num_key_value_heads = 2  head_dim = 8
      }
    }
    inputs { input_ids = i64[2, 13] < 131 }
    """,
)

BERT = Subject(
    ("transformers.models.bert.modeling_bert",),
    """
    model transformers.models.bert.modeling_bert:BertModel {
      config = transformers:BertConfig {
        vocab_size = 131  hidden_size = 48  intermediate_size = 80  num_hidden_layers = 2
        num_attention_heads = 4  max_position_embeddings = 40
      }
    }
    inputs { input_ids = i64[2, 13] < 131  token_type_ids = i64[2, 13] < 2 }
    """,
)

GPT2 = Subject(
    ("transformers.models.gpt2.modeling_gpt2",),
    """
    model transformers.models.gpt2.modeling_gpt2:GPT2LMHeadModel {
      config = transformers:GPT2Config {
        vocab_size = 131  n_positions = 40  n_embd = 48  n_layer = 2  n_head = 4  n_inner = 80
      }
    }
    inputs { input_ids = i64[2, 13] < 131 }
    """,
)

MIXTRAL = Subject(
    ("transformers.models.mixtral.modeling_mixtral",),
    """
    model transformers.models.mixtral.modeling_mixtral:MixtralForCausalLM {
      config = transformers:MixtralConfig {
        vocab_size = 131  hidden_size = 48  intermediate_size = 80  num_hidden_layers = 2
        num_attention_heads = 4  num_key_value_heads = 2  head_dim = 8  num_local_experts = 5
      }
    }
    inputs { input_ids = i64[2, 13] < 131 }
    """,
)

ENCODER = Subject(
    ("torch.nn.modules.transformer",),
    """
    model torch.nn.modules.transformer:TransformerEncoder {
      encoder_layer = torch.nn.modules.transformer:TransformerEncoderLayer {
        d_model = 48  nhead = 4  dim_feedforward = 80  batch_first = true
      }
      num_layers = 2  enable_nested_tensor = false
    }
    inputs { src = f32[2, 13, 48] }
    """,
)

SUBJECTS: dict[str, Subject] = {
    "f5_tts": F5_TTS,
    "dit": DIT,
    "flux": FLUX,
    "llama": LLAMA,
    "bert": BERT,
    "gpt2": GPT2,
    "mixtral": MIXTRAL,
    "encoder": ENCODER,
}
