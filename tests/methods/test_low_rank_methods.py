"""What PEFT's relatives of LoRA do beyond sizes: why some of it is refused, and what their settings come to."""

from __future__ import annotations

from copy import deepcopy

import peft
import pytest
import torch
from adaptable_layers import described
from peft.tuners.lokr.layer import factorization
from torch import nn
from transformers.models.gemma3.modeling_gemma3 import Gemma3TextScaledWordEmbedding

from surgery.graph import Init, Module, Parameter
from surgery.methods import METHODS
from surgery.methods.lokr import _factors

pytestmark = pytest.mark.filterwarnings("ignore")


class One(nn.Module):
    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def forward(self, x):
        return self.layer(x)


def settings_of(name, **given):
    return {setting.name: setting.default for setting in METHODS[name].settings} | given


def adapted(name, layer, **given):
    method = METHODS[name]
    config = getattr(peft, method.config)(target_modules=["layer"], **method.fields(settings_of(name, **given)))
    return peft.get_peft_model(One(layer), config).eval()


def site_of(model):
    return model.base_model.model.layer


def shaken(model):
    """The model with every trained parameter moved, as training would."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1 * parameter.requires_grad)
    return model


def refusal(name, layer, **given):
    return METHODS[name].refusal(described(layer), settings_of(name, **given))


def zeros(layer):
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
    return layer


def as_zeros(layer):
    """The graph's view of a layer whose parameters start as zeros."""
    module = described(layer)
    parameters = tuple(
        Parameter(p.name, p.shape, p.dtype, Init("zero", "m.py:1"), p.storage) for p in module.parameters
    )
    return Module(module.path, module.kind, module.bases, parameters, module.numbers)


@pytest.mark.parametrize(
    ("name", "reason"),
    [("hira", "HiRA multiplies it"), ("delora", "norms of the weight's columns"), ("road", "rotates and scales")],
)
def test_an_adapter_on_zeros_that_scales_them_really_never_gets_a_gradient(name, reason):
    layer, given = nn.Linear(8, 8), {"group_size": 4} if name == "road" else {}
    assert reason in METHODS[name].refusal(as_zeros(layer), settings_of(name, **given))
    model = adapted(name, zeros(layer), **given)
    model(torch.randn(4, 8)).sum().backward()
    assert not any(p.grad is not None and p.grad.any() for p in model.parameters() if p.requires_grad)


def test_road_turns_the_bias_of_a_weight_of_zeros():
    layer = nn.Linear(8, 8)
    weight, bias = described(layer).parameters
    zero = Parameter("weight", weight.shape, weight.dtype, Init("zero", "m.py:1"), 0)
    module = Module("l", "Linear", ("Linear",), (zero, bias))
    assert METHODS["road"].refusal(module, settings_of("road", group_size=4)) is None
    nn.init.zeros_(layer.weight)
    model = adapted("road", layer, group_size=4)
    model(torch.randn(4, 8)).sum().backward()
    assert site_of(model).road_alpha["default"].grad.any()


def test_hira_really_starts_convolutions_in_one_way_only():
    assert "the same way" in refusal("hira", nn.Conv1d(4, 6, 3), init="gaussian")
    starts = []
    for init in (True, "gaussian"):
        torch.manual_seed(0)
        starts.append(site_of(adapted("hira", nn.Conv1d(4, 6, 3), init=init)).hira_A["default"])
    assert torch.equal(*starts)


def test_dropout_on_an_embedding_really_has_no_effect_under_hira():
    layer, ids, given = nn.Embedding(30, 12), torch.arange(30), {"dropout": 0.5, "init": False}
    assert [code for code, _ in METHODS["hira"].advice(described(layer), settings_of("hira", **given))] == ["W0910"]
    model = adapted("hira", layer, **given)
    assert torch.equal(model.train()(ids), model.eval()(ids))


def test_hira_really_does_not_read_the_ranks_of_its_pattern():
    assert not METHODS["hira"].setting("r").per_site
    config = peft.HiraConfig(target_modules=["layer"], r=4, rank_pattern={"layer": 2})
    site = site_of(peft.get_peft_model(One(nn.Linear(8, 8)), config))
    assert site.hira_A["default"].shape == (4, 8)


def test_hira_really_looks_up_rows_in_its_own_way():
    torch.manual_seed(0)
    layer, ids = Gemma3TextScaledWordEmbedding(20, 8, padding_idx=0, embed_scale=3.0), torch.arange(20)
    assert "in its own way" in refusal("hira", layer)
    model = shaken(adapted("hira", layer))
    found = model(ids)
    assert not torch.allclose(model.merge_and_unload()(ids), found, atol=1e-3)


def test_lora_scales_what_it_looks_up_as_a_scaled_embedding_does():
    torch.manual_seed(0)
    layer, ids = Gemma3TextScaledWordEmbedding(20, 8, padding_idx=0, embed_scale=3.0), torch.arange(20)
    assert refusal("lora", layer) is None
    model = shaken(adapted("lora", layer))
    found = model(ids)
    assert torch.allclose(model.merge_and_unload()(ids), found, atol=1e-5)


class Doubled(nn.Linear):
    def forward(self, x):
        return 2 * super().forward(x)


@pytest.mark.parametrize(("name", "given"), [("deft", {"r": 4}), ("miss", {"r": 4, "init": "bat"})])
def test_layers_that_peft_takes_over_really_lose_what_a_class_of_ones_own_makes_of_them(name, given):
    layer, x = Doubled(8, 12), torch.randn(3, 8)
    assert "passes over what Doubled makes of it" in refusal(name, layer, **given)
    expected = layer(x)
    assert not torch.allclose(adapted(name, layer, **given)(x), expected, atol=1e-5)


@pytest.mark.parametrize("factor", [-1, *range(1, 20)])
def test_lokr_divides_sides_as_peft_does(factor):
    assert [_factors(side, factor) for side in range(1, 400)] == [factorization(side, factor) for side in range(1, 400)]


@pytest.mark.parametrize(
    "given", [{"r": 1}, {"r": 1, "decompose_both": True}, {"r": 8, "decompose_both": True}], ids=str
)
def test_lokr_decomposes_what_peft_does(given):
    layer = nn.Linear(48, 80)
    site = site_of(adapted("lokr", layer, **given))
    parted = (bool(site.lokr_w1_a), bool(site.lokr_w2_a))
    assert METHODS["lokr"].decomposed(described(layer), settings_of("lokr", **given)) == parted


def test_lokr_really_lays_out_the_whole_w2_of_a_conv1d_in_another_order():
    torch.manual_seed(0)
    assert refusal("lokr", nn.Conv1d(8, 12, 3), r=1) is None
    assert "take r up to 1" in refusal("lokr", nn.Conv1d(8, 12, 3), r=4)
    for layer, agrees in ((nn.Conv1d(8, 12, 3), False), (nn.Conv2d(8, 12, (3, 1)), True)):
        site = site_of(adapted("lokr", layer, r=4, alpha=4, init=False))
        first, second = site.lokr_w1["default"], site.lokr_w2["default"]
        product = torch.einsum("ac,bdk->abcdk", first, second.reshape(*second.shape[:2], 3)).reshape(12, 8, 3)
        assert torch.allclose(site.get_delta_weight("default").reshape(12, 8, 3), product) == agrees


def test_glora_without_any_of_its_parts_really_adds_nothing():
    layer, given = nn.Linear(6, 8, bias=False), {"config_A_B": "none"}
    assert "nothing is left" in refusal("glora", layer, **given)
    assert not any(p.requires_grad for p in adapted("glora", layer, **given).parameters())
    assert refusal("glora", nn.Linear(6, 8), **given) is None


def test_glora_adapts_no_class_that_derives_from_linear():
    layer = nn.modules.linear.NonDynamicallyQuantizableLinear(6, 8)
    assert "torch's Linear only" in refusal("glora", layer)
    with pytest.raises(ValueError, match=r"not a plain torch\.nn\.Linear"):
        adapted("glora", layer)


@pytest.mark.parametrize(
    ("name", "given"),
    [
        ("miss", {"r": 4, "init": "bat", "dropout": 0.5}),
        ("miss", {"r": 4, "mini_r": 2}),
        ("deft", {"r": 4, "para": True, "dropout": 0.5}),
        ("deft", {"r": 4, "para": True, "alpha": 64}),
        ("deft", {"r": 4, "init_scale": 9.0}),
    ],
    ids=str,
)
def test_settings_that_are_refused_together_really_change_nothing(name, given):
    base, x = nn.Linear(8, 12), torch.randn(3, 8)
    assert METHODS[name].conflict(settings_of(name, **given))
    idle = {"dropout", "mini_r", "alpha", "init_scale"}
    outputs = []
    for values in (given, {key: value for key, value in given.items() if key not in idle}):
        torch.manual_seed(0)
        outputs.append(shaken(adapted(name, deepcopy(base), **values).train())(x))
    assert torch.equal(*outputs)


def test_deft_scales_by_the_rank_that_the_outputs_leave():
    layer, given = nn.Linear(8, 4), {"r": 16, "alpha": 6}
    assert METHODS["deft"].scale(described(layer), settings_of("deft", **given)) == 6 / 4
    assert site_of(adapted("deft", layer, **given)).deft_scaling["default"] == 6 / 4


def test_gralora_takes_no_inputs_of_four_dimensions():
    model = adapted("gralora", nn.Linear(8, 8), r=4)
    assert model(torch.randn(2, 3, 8)).shape == (2, 3, 8)
    with pytest.raises(ValueError, match="unpack"):
        model(torch.randn(2, 3, 3, 8))


def test_adalora_really_fails_to_drop_ranks_when_there_are_none_to_drop():
    given = {"init_r": 4, "target_r": 4, "total_step": 5}
    assert "is not below" in METHODS["adalora"].conflict(settings_of("adalora", **given))
    model = adapted("adalora", nn.Linear(8, 8), **given).train()
    model(torch.randn(2, 8)).sum().backward()
    with pytest.raises(RuntimeError, match="out of range"):
        model.base_model.update_and_allocate(1)


@pytest.mark.parametrize("given", [{"tinit": 3, "tfinal": 2, "total_step": 5}, {"total_step": 5, "tfinal": 5}], ids=str)
def test_adalora_without_a_step_to_drop_ranks_in_is_refused_as_peft_does(given):
    assert "no step is left" in METHODS["adalora"].conflict(settings_of("adalora", **given))
    with pytest.raises(ValueError, match="budgeting phase"):
        adapted("adalora", nn.Linear(8, 8), **given)


@pytest.mark.parametrize("beta", ["beta1", "beta2"])
def test_adalora_needs_betas_above_zero_as_peft_does(beta):
    given = {"total_step": 5, beta: 0.0}
    assert "above 0" in METHODS["adalora"].conflict(settings_of("adalora", **given))
    with pytest.raises(AssertionError):
        adapted("adalora", nn.Linear(8, 8), **given)


def test_adalora_among_other_methods_really_has_nothing_that_drops_ranks():
    assert not METHODS["adalora"].mixes
    config = peft.AdaLoraConfig(target_modules=["layer"], total_step=10)
    alone = peft.get_peft_model(One(nn.Linear(8, 8)), config)
    mixed = peft.get_peft_model(One(nn.Linear(8, 8)), config, mixed=True)
    assert hasattr(alone.base_model, "update_and_allocate")
    assert not hasattr(mixed.base_model, "update_and_allocate")


def test_the_rank_that_adalora_divides_by_is_neither_trained_nor_saved(tmp_path):
    method, settings = METHODS["adalora"], settings_of("adalora", total_step=5)
    model = adapted("adalora", nn.Linear(8, 8), total_step=5)
    assert method.frozen_parameters(settings) == ("ranknum",)
    assert not site_of(model).ranknum["default"].requires_grad
    saved = peft.get_peft_model_state_dict(model)
    assert sum(tensor.numel() for tensor in saved.values()) == method.added(described(nn.Linear(8, 8)), settings) - 1
