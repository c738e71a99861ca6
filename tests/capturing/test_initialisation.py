"""Init facts from watching a construction, against the values that a real construction gives."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from surgery.capturing.initialisation import InitRecorder
from surgery.graph import Init


def made(build: Callable[[], nn.Module]) -> dict[str, Init]:
    mode = FakeTensorMode(allow_non_fake_inputs=True)
    recorder = InitRecorder(mode)
    with mode, recorder:
        model = build()
    return {name: recorder.of(p) for name, p in model.named_parameters()}


class Statements(nn.Module):
    """Every way of making a parameter that the field uses."""

    def __init__(self) -> None:
        super().__init__()
        self.zeros = nn.Parameter(torch.zeros(3))
        self.times_zero = nn.Parameter(torch.randn(3).mul_(0.5))
        self.ones = nn.Parameter(torch.ones(3))
        self.full = nn.Parameter(torch.full((3,), 0.1))
        self.full_zero = nn.Parameter(torch.full((3,), 0.0))
        self.eye = nn.Parameter(torch.eye(3))
        self.normal = nn.Parameter(torch.empty(3).normal_())
        self.by_init = nn.Parameter(torch.empty(3, 3))
        nn.init.zeros_(self.by_init)
        self.by_constant = nn.Parameter(torch.empty(3, 3))
        nn.init.constant_(self.by_constant, 0)
        self.by_data = nn.Parameter(torch.randn(3, 3))
        self.by_data.data.zero_()
        self.refilled = nn.Parameter(torch.zeros(3, 3))
        nn.init.xavier_uniform_(self.refilled)
        self.truncated = nn.Parameter(torch.zeros(3, 3))
        nn.init.trunc_normal_(self.truncated, std=0.02)
        self.table = nn.Embedding(5, 3, padding_idx=0)
        self.part = nn.Parameter(torch.randn(4))
        with torch.no_grad():
            self.part[:2] = 0
        self.part_of_zeros = nn.Parameter(torch.zeros(4))
        with torch.no_grad():
            self.part_of_zeros[:2] = 0
        self.copied = nn.Parameter(torch.empty(3))
        with torch.no_grad():
            self.copied.copy_(torch.zeros(3))
        self.looked_at = nn.Parameter(torch.zeros(4))
        self.looked_at[:2].sum()
        self.looked_at.data.view(2, 2).t()
        self.scaled_zeros = nn.Parameter(torch.zeros(3) * 7)
        self.shifted_zeros = nn.Parameter(torch.zeros(3) + 7)


def test_every_way_of_making_a_parameter() -> None:
    torch.manual_seed(0)
    values = dict(Statements().named_parameters())
    for name, init in made(Statements).items():
        zero = not values[name].detach().any()
        assert (init.value == "zero") == zero, (name, init)
    found = made(Statements)
    assert found["ones"].value == "constant"
    assert found["eye"].value == "identity"
    assert found["table.weight"].value == "random"
    assert found["shifted_zeros"].value == "unknown"
    assert "test_initialisation.py:" in (found["by_init"].place or "")


def test_the_line_is_that_of_the_last_statement() -> None:
    place = made(Statements)["refilled"].place
    lines = open(__file__, encoding="utf-8").read().splitlines()  # noqa: SIM115, PTH123
    assert place is not None
    assert "xavier_uniform_" in lines[int(place.rpartition(":")[2]) - 1]


def transformers_models() -> dict[str, Callable[[], nn.Module]]:
    import transformers as t

    small = {"vocab_size": 50, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    return {
        "bert": lambda: t.BertModel(t.BertConfig(**small, intermediate_size=64)),
        "llama": lambda: t.LlamaForCausalLM(t.LlamaConfig(**small, intermediate_size=64, num_key_value_heads=2)),
        "gpt2": lambda: t.GPT2LMHeadModel(t.GPT2Config(vocab_size=50, n_embd=32, n_layer=2, n_head=2)),
        "t5": lambda: t.T5ForConditionalGeneration(
            t.T5Config(vocab_size=50, d_model=32, d_ff=64, num_layers=2, num_heads=2, d_kv=16)
        ),
    }


def diffusers_models() -> dict[str, Callable[[], nn.Module]]:
    import diffusers as d

    return {
        "sd3": lambda: d.SD3Transformer2DModel(
            sample_size=8, num_layers=2, attention_head_dim=8, num_attention_heads=4, joint_attention_dim=32,
            caption_projection_dim=32, pooled_projection_dim=16, pos_embed_max_size=16,
        ),
        "flux": lambda: d.FluxTransformer2DModel(
            in_channels=16, num_layers=1, num_single_layers=1, attention_head_dim=16, num_attention_heads=2,
            joint_attention_dim=32, pooled_projection_dim=24, axes_dims_rope=(4, 4, 8),
        ),
    }  # fmt: skip


def f5_models() -> dict[str, Callable[[], nn.Module]]:
    from f5_tts.model import DiT, MMDiT, UNetT

    sizes = {"dim": 64, "depth": 2, "heads": 2, "ff_mult": 2}
    return {
        "dit": lambda: DiT(**sizes, text_dim=32, conv_layers=2),
        "unett": lambda: UNetT(**sizes, text_dim=32, conv_layers=2),
        "mmdit": lambda: MMDiT(**sizes),
    }


@pytest.mark.parametrize("family", [transformers_models, diffusers_models, f5_models])
def test_zeros_of_real_models(family: Callable[[], dict[str, Callable[[], nn.Module]]]) -> None:
    for name, build in family().items():
        real = {p: not v.detach().any() for p, v in build().named_parameters()}
        watched = {p: init.value == "zero" for p, init in made(build).items()}
        assert watched == real, name


def test_values_from_elsewhere_are_loaded() -> None:
    saved = torch.randn(3, 3)

    def build() -> nn.Module:
        model = nn.Linear(3, 3)
        with torch.no_grad():
            model.weight.copy_(saved)
        return model

    recorder = InitRecorder()
    with recorder:
        model = build()
    assert recorder.of(model.weight).value == "loaded"
    assert recorder.of(model.bias).value == "random"
