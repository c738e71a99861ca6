"""What PEFT's LoRA does beyond sizes: why some of it is refused, what a saved start gives."""

from __future__ import annotations

from copy import deepcopy

import peft
import pytest
import torch
from adaptable_layers import described
from torch import nn
from transformers.pytorch_utils import Conv1D

from surgery.graph import Init, Module, Parameter
from surgery.methods import METHODS

LORA = METHODS["lora"]
pytestmark = pytest.mark.filterwarnings("ignore")


class One(nn.Module):
    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def forward(self, x):
        return self.layer(x)


class Attending(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.MultiheadAttention(16, 4, batch_first=True)

    def forward(self, x):
        return self.layer(x, x, x, need_weights=False)[0]


def settings(**given):
    return {setting.name: setting.default for setting in LORA.settings} | given


def adapted(layer, **given):
    config = peft.LoraConfig(target_modules=["layer"], **LORA.fields(settings(**given)))
    return peft.get_peft_model(One(layer), config).eval()


def attention(dtype=torch.float32):
    """An attention, the same one adapted, and PEFT's layer in that."""
    torch.manual_seed(0)
    base = Attending().eval().to(dtype)
    model = peft.get_peft_model(deepcopy(base), peft.LoraConfig(r=2, lora_alpha=2, target_modules=["layer"])).eval()
    site = model.base_model.model.layer
    with torch.no_grad():
        for pair in (site.lora_B, site.base_layer.out_proj.lora_B):
            pair["default"].weight.normal_()
    return base, model, site


def test_multihead_attention_really_adds_the_update_of_its_output_projection_twice():
    base, model, site = attention()
    assert "output projection twice" in LORA.refusal(described(base.layer), settings())
    x = torch.randn(2, 5, 16)
    update = site.base_layer.out_proj.get_delta_weight("default").detach()
    with torch.no_grad():
        base.layer.in_proj_weight += site.get_delta_weight("default")
        base.layer.out_proj.weight += update
        assert not torch.allclose(model(x), base(x), atol=1e-3)
        base.layer.out_proj.weight += update
        assert torch.allclose(model(x), base(x), atol=1e-5)


def test_multihead_attention_really_gets_half_the_gradient_of_that_update():
    _, model, site = attention()
    x, step = torch.randn(2, 5, 16), 1e-2
    model(x).sum().backward()
    up = site.base_layer.out_proj.lora_B["default"].weight
    with torch.no_grad():
        up[0, 0] += step
        above = model(x).sum()
        up[0, 0] -= 2 * step
        slope = (above - model(x).sum()) / (2 * step)
    assert torch.allclose(up.grad[0, 0], slope / 2, rtol=1e-2)


def test_multihead_attention_really_moves_its_frozen_weights_with_every_call():
    base, model, site = attention(torch.bfloat16)
    with torch.no_grad():
        for _ in range(10):
            model(torch.randn(2, 5, 16, dtype=torch.bfloat16))
    assert not torch.equal(site.base_layer.in_proj_weight, base.layer.in_proj_weight)


def test_an_encoder_layer_of_torch_really_ignores_an_adapted_attention_in_evaluation():
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    model = peft.get_peft_model(One(layer), peft.LoraConfig(r=2, target_modules=["self_attn"])).eval()
    nn.init.normal_(model.base_model.model.layer.self_attn.lora_B["default"].weight)
    x = torch.randn(2, 5, 8)
    with torch.no_grad(), model.disable_adapter():
        expected = model(x)
    assert torch.equal(model(x), expected)


def test_the_projection_of_an_attention_can_be_adapted_as_a_parameter():
    base, _, _ = attention()
    config = peft.LoraConfig(r=2, target_modules=[], target_parameters=["layer.in_proj_weight"])
    model = peft.get_peft_model(deepcopy(base), config).eval()
    site = model.base_model.model.layer
    nn.init.normal_(site.lora_B["default"].weight)
    x = torch.randn(2, 5, 16)
    with torch.no_grad():
        base.layer.in_proj_weight += site.get_delta_weight("default")
        assert torch.allclose(model(x), base(x), atol=1e-5)


@pytest.mark.parametrize("init", ["pissa", "olora", "orthogonal"])
def test_starts_that_peft_has_not_for_an_embedding_are_really_the_usual_one(init):
    layer = nn.Embedding(30, 12)
    assert "not for Embedding" in LORA.refusal(described(layer), settings(init=init))
    site = adapted(layer, init=init).base_model.model.layer
    assert not site.lora_embedding_A["default"].any()


def test_olora_on_the_weight_of_a_square_conv1d_really_starts_elsewhere():
    torch.manual_seed(0)
    layer, x = Conv1D(16, 16), torch.randn(2, 16)
    assert "not for Conv1D" in LORA.refusal(described(layer), settings(init="olora"))
    expected = layer(x)
    assert not torch.allclose(adapted(layer, init="olora")(x), expected, atol=0.1)


@pytest.mark.parametrize("init", ["pissa", "olora"])
def test_a_rank_above_the_singular_vectors_really_makes_a_smaller_adapter(init):
    layer = nn.Linear(6, 10)
    assert "more than the 6 singular vectors" in LORA.refusal(described(layer), settings(init=init))
    site = adapted(layer, init=init).base_model.model.layer
    assert site.lora_A["default"].weight.shape == (6, 6)  # of a rank of 8


def test_dropout_on_an_embedding_really_has_no_effect():
    layer, ids = nn.Embedding(30, 12), torch.arange(30)
    given = {"dropout": 0.5, "init": False}
    assert [code for code, _ in LORA.advice(described(layer), settings(**given))] == ["W0910"]
    model = adapted(layer, **given)
    assert torch.equal(model.train()(ids), model.eval()(ids))


def test_blocks_of_no_factor_are_pointed_out():
    layer = described(nn.Linear(12, 20))
    assert [code for code, _ in LORA.advice(layer, settings(nblocks=4))] == ["W0910"]
    assert [code for code, _ in LORA.advice(layer, settings(nblocks=4, bdlora="A"))] == []


def test_pissa_on_zeros_really_never_gets_a_gradient():
    layer = nn.Linear(10, 12)
    nn.init.zeros_(layer.weight)
    weight = Parameter("weight", (12, 10), "float32", Init("zero", "m.py:1"), 0)
    assert "never get a gradient" in LORA.refusal(Module("l", "Linear", ("Linear",), (weight,)), settings(init="pissa"))
    model = adapted(layer, init="pissa")
    model(torch.randn(4, 10)).sum().backward()
    assert not any(p.grad.any() for p in model.parameters() if p.requires_grad)


@pytest.mark.parametrize("init", ["pissa", "olora", "mica"])
def test_starts_from_weights_really_refuse_double_precision(init):
    layer = nn.Linear(10, 12, dtype=torch.float64)
    assert "refuses float64" in LORA.refusal(described(layer), settings(init=init))
    with pytest.raises(TypeError):
        adapted(layer, init=init)


@pytest.mark.parametrize(("init", "same"), [("pissa", True), ("olora", True), ("pissa_niter_4", False)])
def test_what_plain_peft_loads_is_the_trained_model_unless_the_start_is_drawn_again(init, same, tmp_path):
    torch.manual_seed(0)
    base, x = nn.Linear(24, 20), torch.randn(4, 24)
    model = adapted(deepcopy(base), r=4, init=init)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1 * parameter.requires_grad)
    model.save_pretrained(tmp_path)
    loaded = peft.PeftModel.from_pretrained(One(deepcopy(base)), str(tmp_path)).eval()
    assert torch.allclose(loaded(x), model(x), atol=1e-5 if same else 1e-2) == same


@pytest.mark.parametrize(
    "given", [{"bdlora": "A", "nblocks": 3}, {"bdlora": "B", "nblocks": 8}, {"bdlora": "A", "nblocks": 8}], ids=str
)
def test_blocks_that_do_not_divide_a_side_are_refused_as_peft_does(given):
    layer = nn.Linear(12, 20)
    assert "do not divide" in LORA.refusal(described(layer), settings(r=8, **given))
    with pytest.raises(ValueError, match="not divisible"):
        adapted(layer, r=8, **given)


@pytest.mark.parametrize(
    "given",
    [
        {"dora": True, "bdlora": "A"},
        {"dora": True, "init": "mica"},
        {"dora": True, "lora_bias": True},
        {"lora_bias": True, "init": "gaussian"},
        {"init": "orthogonal", "r": 3},
    ],
    ids=str,
)
def test_settings_that_do_not_go_together_are_refused_as_peft_does(given):
    assert LORA.conflict(settings(**given))
    with pytest.raises(ValueError, match=r"variant|lora_bias|even"):
        adapted(nn.Linear(12, 20), **given)


@pytest.mark.parametrize("given", [{"init": "pissa"}, {"init": False}, {"lora_bias": True}], ids=str)
def test_a_block_diagonal_factor_really_forgets_the_start_and_the_bias(given):
    assert LORA.conflict(settings(bdlora="B", nblocks=2, **given))
    site = adapted(nn.Linear(12, 20), bdlora="B", nblocks=2, **given).base_model.model.layer
    assert not site.lora_B["default"].weight.any()
    assert not hasattr(site.lora_B["default"], "bias")
