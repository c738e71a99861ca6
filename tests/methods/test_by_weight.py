"""Methods that multiply a weight, or compute with it themselves: what PEFT makes of zeros and of other layers."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from adaptable_layers import described
from one_layer import adapted, refusal, shake, trained
from torch import nn

from surgery.graph import Init
from surgery.methods import METHODS

pytestmark = pytest.mark.filterwarnings("ignore")
MULTIPLIED = {
    "ia3": {"feedforward": True},
    "oft": {"block_size": 4},
    "boft": {"block_size": 4},
    "hra": {"r": 4},
    "psoft": {"r": 4},
    "peanut": {"r": 4},
}


@pytest.mark.parametrize(("name", "settings"), MULTIPLIED.items(), ids=MULTIPLIED)
def test_nothing_is_really_learnt_of_a_weight_of_zeros(name, settings):
    layer = nn.Linear(12, 20)
    nn.init.zeros_(layer.weight)
    method, module = METHODS[name], described(layer)
    zeros = dataclasses.replace(module.weight, init=Init("zero", "m.py:1"))
    module = dataclasses.replace(module, parameters=(zeros, *module.parameters[1:]))
    resolved = {setting.name: setting.default for setting in method.settings} | settings
    assert "nothing would be learnt" in method.refusal(module, resolved)
    model, _ = adapted(name, layer, **settings)
    shake(model)
    model(torch.randn(3, 12)).square().sum().backward()
    assert not any(parameter.grad.any() for parameter in trained(model).values())


def test_ia3_really_learns_from_a_bias_where_the_weight_is_zero():
    layer = nn.Linear(12, 20)
    nn.init.zeros_(layer.weight)
    model, site = adapted("ia3", layer)
    model(torch.randn(3, 12)).square().sum().backward()
    assert site.ia3_l["default"].grad.all()
    module = described(layer)
    zeros = dataclasses.replace(module.weight, init=Init("zero", "m.py:1"))
    settings = {"feedforward": False, "init": True}
    assert (
        METHODS["ia3"].refusal(dataclasses.replace(module, parameters=(zeros, module.parameters[1])), settings) is None
    )
    assert "starts as zeros" in METHODS["ia3"].refusal(dataclasses.replace(module, parameters=(zeros,)), settings)


class Doubled(nn.Linear):
    """A Linear with a forward of its own, such as a scaled embedding head or a layer that keeps statistics."""

    def forward(self, x):
        return 2 * super().forward(x)


@pytest.mark.parametrize(
    ("name", "settings"), [("hra", {"r": 2}), ("shira", {"r": 2}), ("supertuning", {"sparsity": 0.5})], ids=str
)
def test_the_forward_of_a_subclass_is_really_passed_over(name, settings):
    layer, x = Doubled(12, 20), torch.randn(3, 12)
    assert "passes over what Doubled makes" in refusal(name, layer, **settings)
    model, _ = adapted(name, layer, **settings)
    assert torch.allclose(2 * model(x), layer(x), atol=1e-5)


CONVOLUTIONS = {
    "dilation": (lambda: nn.Conv2d(4, 6, 3, padding=2, dilation=2), "dilation"),
    "padding_mode": (lambda: nn.Conv2d(4, 6, 3, padding=1, padding_mode="circular"), "pads with zeros"),
    "padding": (lambda: nn.Conv2d(4, 6, 3, padding=(1, 0)), "pads with zeros"),
    "padding_by_name": (lambda: nn.Conv2d(4, 6, 3, padding="same"), "pads with zeros"),
    "stride": (lambda: nn.Conv2d(4, 6, 3, stride=(1, 2)), "for square"),
    "groups": (lambda: nn.Conv2d(4, 6, 3, groups=2), "groups"),
}


@pytest.mark.parametrize("name", ["hra", "boft"])
@pytest.mark.parametrize(("build", "reason"), CONVOLUTIONS.values(), ids=CONVOLUTIONS)
def test_what_peft_drops_of_a_convolution(name, build, reason):
    layer, x = build(), torch.randn(1, 4, 9, 9)
    settings = {"r": 2} if name == "hra" else {"block_size": 4}
    assert reason in refusal(name, layer, **settings)
    try:
        found = adapted(name, layer, **settings)[0](x)
    except (NotImplementedError, RuntimeError, TypeError):
        return
    expected = layer(x)
    assert found.shape != expected.shape or not torch.allclose(found, expected, atol=1e-3)


@pytest.mark.parametrize(("name", "settings"), [("hra", {"r": 2}), ("boft", {"block_size": 4})], ids=str)
def test_a_strided_and_padded_convolution_is_the_base_model_at_first(name, settings):
    layer, x = nn.Conv2d(4, 6, 3, stride=2, padding=1), torch.randn(1, 4, 9, 9)
    assert not refusal(name, layer, **settings)
    model, _ = adapted(name, layer, **settings)
    assert torch.allclose(model(x), layer(x), atol=1e-5)
