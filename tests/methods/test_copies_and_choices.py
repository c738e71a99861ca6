"""LN tuning's copies, SHiRA's places and PEANuT's activations, as PEFT and transformers have them."""

from __future__ import annotations

import pytest
import torch
from one_layer import adapted, refusal, trained
from torch import nn
from transformers.activations import ACT2FN

import surgery
from surgery.methods import METHODS

pytestmark = pytest.mark.filterwarnings("ignore")


def test_ln_tuning_really_copies_any_module_whole():
    block = nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4))
    model, _ = adapted("ln_tuning", block)
    assert sum(p.numel() for p in trained(model).values()) == sum(p.numel() for p in block.parameters())
    assert METHODS["ln_tuning"].copies
    assert "is no vector" in refusal("ln_tuning", nn.Linear(4, 4))


@pytest.mark.parametrize("norm", [nn.GroupNorm(2, 8), nn.BatchNorm2d(8)], ids=lambda norm: type(norm).__name__)
def test_ln_tuning_takes_other_norms(norm):
    assert not refusal("ln_tuning", norm)
    x, before = torch.randn(2, 8, 3, 3), norm(torch.zeros(2, 8, 3, 3)).shape
    model, site = adapted("ln_tuning", norm.eval())
    assert model(x).shape == x.shape == before
    assert sum(p.numel() for p in trained(model).values()) == 16
    assert site.ln_tuning_layers["default"] is not norm


class Scaled(nn.Module):
    """A module with a vector of its own and another module inside."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(4))
        self.inner = nn.Linear(4, 4)

    def forward(self, x):
        return self.inner(x) * self.scale


def test_ln_tuning_refuses_a_module_with_others_inside(tmp_path):
    spec = tmp_path / "s.surg"
    spec.write_text('surg 1\ntarget scales { select path("0") ln_tuning {} }\n', encoding="utf-8")
    plan = surgery.plan(surgery.load(spec), surgery.capture(nn.Sequential(Scaled()), args=(torch.randn(2, 4),)))
    [problem] = [one for one in plan.diagnostics if one.code == "E0404"]
    assert "would copy them too" in problem.message


def test_ln_tuning_refuses_what_has_nothing_to_train():
    assert "no parameters" in refusal("ln_tuning", nn.LayerNorm(8, elementwise_affine=False))


def test_the_places_of_shira_do_not_depend_on_the_state_of_the_generator():
    for seed in (None, 3):
        places = []
        for state in (0, 1):
            torch.manual_seed(state)
            places.append(adapted("shira", nn.Linear(12, 20), r=2, random_seed=seed)[1].shira_indices["default"])
        assert torch.equal(*places)


def test_every_activation_of_transformers_is_offered_or_says_why_not():
    method = METHODS["peanut"]
    setting = method.setting("act_fn")
    refused = {name for name in ACT2FN if method.unsupported_value(setting, name)}
    assert refused | set(setting.choices) == set(ACT2FN)
    assert refused == {name for name in ACT2FN if list(ACT2FN[name].parameters())}


@pytest.mark.parametrize("name", METHODS["peanut"].setting("act_fn").choices)
def test_peanut_with_this_activation_is_the_base_model_at_first_and_computes_the_same_each_time(name):
    layer, x = nn.Linear(12, 20), torch.randn(3, 12)
    model, site = adapted("peanut", layer, r=4, depth=1, act_fn=name)
    assert torch.equal(model(x), layer(x))
    nn.init.normal_(site.peanut_B["default"].weight)
    assert torch.equal(model(x), model(x))
