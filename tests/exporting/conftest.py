"""Real models taken through the whole way: spec, captured graph, plan, adapted model with trained-like weights."""

from dataclasses import dataclass
from typing import Any

import pytest
import torch
from f5_tts.model import DiT
from torch import nn
from transformers import BertConfig, BertModel, GPT2Config, GPT2LMHeadModel

import surgery


class Convolutions(nn.Module):
    def __init__(self):
        super().__init__()
        self.tokens = nn.Embedding(20, 8)
        self.one = nn.Conv1d(8, 12, 3, padding=1)
        self.grouped = nn.Conv1d(12, 12, 3, padding=1, groups=3)
        self.two = nn.Conv2d(1, 4, 3, padding=1)
        self.head = nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4))

    def forward(self, ids):
        x = self.grouped(self.one(self.tokens(ids).transpose(1, 2)))
        return self.head(self.two(x[:, None]).mean((2, 3)))


def small_dit():
    model = DiT(dim=64, depth=2, heads=2, ff_mult=2, text_dim=32, conv_layers=1, text_num_embeds=30)
    for module in model.modules():
        if isinstance(module, nn.Linear) and not module.weight.any():
            nn.init.normal_(module.weight, std=0.1)
    return model


def dit_inputs():
    x, cond = torch.randn(2, 12, 100), torch.randn(2, 12, 100)
    return {"x": x, "cond": cond, "text": torch.randint(30, (2, 6)), "time": torch.rand(2)}


def bert():
    model = BertModel(BertConfig(hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=48))
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):  # zeros when fresh, which would hide what merging does to them
            nn.init.normal_(parameter, std=0.1)
    return model


def gpt2():
    return GPT2LMHeadModel(GPT2Config(n_embd=32, n_layer=2, n_head=2, vocab_size=50, n_positions=32))


def token_ids():
    return {"input_ids": torch.arange(12).reshape(2, 6)}


MODELS = {
    "dit": (small_dit, dit_inputs),
    "bert": (bert, token_ids),
    "gpt2": (gpt2, token_ids),
    "convolutions": (Convolutions, lambda: {"ids": torch.arange(12).reshape(2, 6)}),
}
SPECS = {
    "dit-lora": 'target a { select path("transformer_blocks.*.attn.to_{q,k}") lora { r = 4 } }',
    "dit-loha": 'target a { select path("transformer_blocks.*.ff.ff.{0.0,2}") loha { r = 3 } }',
    "dit-both": """
        target a { select path("transformer_blocks.*.attn.to_{q,k}") lora { r = 4 dora = true } }
        target b { select path("transformer_blocks.*.ff.ff.{0.0,2}") loha { r = 3 alpha = 6 } }
        target c { select path("transformer_blocks.*.attn.to_v") lora { r = 2 rslora = true } }
        train { select path("time_embed.**") }
    """,
    "bert-several": """
        target attention { select path("encoder.layer.*.attention.self.{query,key}") lora { r = 4 dropout = 0.1 } }
        target more { select path("encoder.layer.*.output.dense") lora { r = 8 alpha = 4 dropout = 0.1 } }
        target words { select path("embeddings.word_embeddings") lora { r = 2 dora = true } }
        train { select path("pooler.dense") }
    """,
    "bert-ia3": 'target a { select path("encoder.layer.*.attention.self.{key,value}") ia3 {} }',
    "bert-pissa": """
        target a { select path("encoder.layer.*.attention.self.{query,key}") lora { r = 4  init = "pissa" } }
    """,
    "bert-oft": 'target a { select path("encoder.layer.*.intermediate.dense") oft { r = 0  block_size = 8 } }',
    "gpt2": 'target a { select path("transformer.h.*.{attn,mlp}.c_proj") lora { r = 4 dora = true } }',
    "convolutions": """
        target a { select path("one", "tokens") lora { r = 6 } }
        target b { select path("two") loha { r = 2 effective_conv2d = true } }
        train { select path("head.**") }
    """,
}


@dataclass
class Case:
    name: str
    plan: Any
    adapted: Any
    inputs: dict

    def fresh(self):
        """The base model, as it was before it was adapted."""
        return build(self.name)

    def outputs(self, model):
        return outputs(model, self.inputs)


def build(name):
    torch.manual_seed(0)
    return MODELS[name.split("-")[0]][0]().eval()


def outputs(model, inputs):
    with torch.no_grad():
        result = model.eval()(**inputs)
    return result if isinstance(result, torch.Tensor) else result[0]


def trained(adapted):
    """Every trainable parameter moved, as training would."""
    torch.manual_seed(2)
    with torch.no_grad():
        for parameter in adapted.parameters():
            if parameter.requires_grad:
                parameter.add_(0.1 * torch.randn_like(parameter))
    return adapted


@pytest.fixture
def make(tmp_path):
    """`make("dit-lora")` or `make("dit", spec_text)`: an adapted model whose adapters have moved."""

    def made(name, text=None, dtype=torch.float32):
        file = tmp_path / "case.surg"
        file.write_text(f"surg 1\n{text or SPECS[name]}")
        model = build(name).to(dtype)
        torch.manual_seed(1)
        inputs = MODELS[name.split("-")[0]][1]()
        inputs = {key: value.to(dtype) if value.is_floating_point() else value for key, value in inputs.items()}
        plan = surgery.plan(surgery.load(file), surgery.capture(model, kwargs=inputs))
        return Case(name, plan, trained(surgery.apply(model, plan)), inputs)

    return made
