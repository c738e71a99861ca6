"""Every method's trained adapter, merged into its layer or refused; and saved under PEFT's own keys."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from adaptable_layers import LAYERS, described
from peft import get_peft_model_state_dict
from torch import nn

from surgery.inject import adapter_state, apply, base_model
from surgery.inject.state import layer_at, trainable_tensors
from surgery.methods import METHODS
from surgery.verifying.merging import merge, prove_layer

CASES = Path(__file__).parents[1] / "methods" / "cases"
pytestmark = [pytest.mark.heavy, pytest.mark.filterwarnings("ignore")]


class Net(nn.Module):
    def __init__(self, build):
        super().__init__()
        self.blocks = nn.ModuleList(nn.ModuleDict({"layer": build()}) for _ in range(2))

    def forward(self, x):
        return [block["layer"](x) for block in self.blocks]


def cases():
    for name, method in METHODS.items():
        for layer, (build, _) in LAYERS.items():
            for number, given in enumerate(json.loads((CASES / f"{name}.json").read_text(encoding="utf-8"))):
                settings = {setting.name: setting.default for setting in method.settings} | given
                if not (method.conflict(settings) or method.refusal(described(build()), settings)):
                    yield pytest.param(name, layer, given, id=f"{name}-{layer}-{number}")


@pytest.mark.parametrize(("name", "layer", "given"), cases())
def test_a_trained_adapter_is_merged_whole_or_refused_and_saved_under_pefts_keys(name, layer, given, plan_for):
    torch.manual_seed(0)
    base = Net(LAYERS[layer][0]).eval()
    plan = plan_for(base, {"default": (name, given, ["blocks.0.layer", "blocks.1.layer"])})
    model = apply(base, plan).eval()
    with torch.no_grad():
        for parameter in trainable_tensors(model, plan):
            parameter.add_(0.1 * torch.randn_like(parameter))
    before = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    assert_merged(plan.sites[0], layer_at(base_model(model), plan.sites[0].path))
    assert {key: tensor.tolist() for key, tensor in model.state_dict().items()} == {
        key: tensor.tolist() for key, tensor in before.items()
    }
    [state] = adapter_state(model, plan).values()
    expected = get_peft_model_state_dict(model, save_embedding_layers=False)
    assert state.keys() == expected.keys()
    assert all(torch.equal(tensor, expected[key]) for key, tensor in state.items())


def assert_merged(site, adapted):
    merged = merge(site, adapted)
    refused = METHODS[site.method].merging(described(adapted.get_base_layer()), site.settings)
    if isinstance(merged, str):
        assert merged == refused
        return
    assert refused is None
    assert merged
    proof = prove_layer(site, adapted, merged)
    assert proof.holds, proof


def test_a_bias_that_a_method_changes_is_merged_with_the_weight(plan_for):
    """IA3 scales a layer's output, its bias too."""
    base = nn.Sequential(nn.Linear(4, 3))
    plan = plan_for(base, {"default": ("ia3", {}, ["0"])})
    layer = layer_at(base_model(apply(base, plan)), "0")
    with torch.no_grad():
        layer.ia3_l["default"].fill_(3.0)
    own = layer.get_base_layer()
    merged = merge(plan.sites[0], layer)
    assert torch.equal(merged["weight"], 3 * own.weight)
    assert torch.equal(merged["bias"], 3 * own.bias)
    assert prove_layer(plan.sites[0], layer, merged).holds
    assert not prove_layer(plan.sites[0], layer, {"weight": merged["weight"]}).holds
