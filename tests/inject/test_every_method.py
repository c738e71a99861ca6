"""Every method on every kind of layer it accepts, from plan to plain PEFT: applied, verified, trained a step, reloaded.

The settings are those of `tests/methods/cases`.
"""

from __future__ import annotations

import json
from copy import deepcopy
from pathlib import Path

import pytest
import torch
from adaptable_layers import LAYERS, described
from peft import PeftModel
from torch import nn

from surgery.inject import apply, base_model
from surgery.inject.directory import save_adapters
from surgery.inject.state import trainable_tensors
from surgery.methods import METHODS
from surgery.verifying import verify

CASES_FOLDER = Path(__file__).parents[1] / "methods" / "cases"
pytestmark = [pytest.mark.heavy, pytest.mark.filterwarnings("ignore")]


class Net(nn.Module):
    """Two layers of a kind on inputs of their own, between others that stay as they are."""

    def __init__(self, build):
        super().__init__()
        self.before = nn.Linear(3, 3)
        self.blocks = nn.ModuleList(nn.ModuleDict({"layer": build(), "other": nn.Linear(4, 4)}) for _ in range(2))

    def forward(self, x):
        return [block["layer"](x) for block in self.blocks]


def cases():
    for name, method in METHODS.items():
        for layer, (build, _) in LAYERS.items():
            for number, given in enumerate(json.loads((CASES_FOLDER / f"{name}.json").read_text(encoding="utf-8"))):
                settings = {setting.name: setting.default for setting in method.settings} | given
                if not (method.conflict(settings) or method.refusal(described(build()), settings)):
                    yield pytest.param(name, layer, given, id=f"{name}-{layer}-{number}")


def outputs(model, x):
    torch.manual_seed(0)
    with torch.no_grad():
        return model(x)


@pytest.mark.parametrize(("name", "layer", "given"), cases())
def test_applied_verified_trained_saved_and_reloaded_by_plain_peft(name, layer, given, plan_for, tmp_path):
    build, inputs = LAYERS[layer]
    torch.manual_seed(0)
    base, x = Net(build).eval(), inputs()
    original = deepcopy(base)
    plan = plan_for(base, {"default": (name, given, ["blocks.0.layer", "blocks.1.layer"])})
    model = apply(base, plan)
    found = verify(model, plan, x)
    assert found.identity.status in promised(name, plan.sites[0].settings)
    assert found.gradients.reached == 2
    assert_trained(model, plan, x)
    trained = outputs(model, x)
    assert any(not torch.equal(a, b) for a, b in zip(trained, outputs(original, x), strict=True))
    save_adapters(model, plan, tmp_path / "adapter")
    loaded = PeftModel.from_pretrained(original, str(tmp_path / "adapter")).eval()
    for a, b in zip(outputs(loaded, x), trained, strict=True):
        assert torch.allclose(a, b, atol=1e-6, rtol=1e-5)


def promised(name, settings):
    """What verifying a fresh adapter may find. Where applying changes base weights, there is no base to compare."""
    start = METHODS[name].start(settings)
    if start == "none" or METHODS[name].writes_weights(settings):
        return ["skipped"]
    return ["exact"] if start == "exact" else ["exact", "close"]


def assert_trained(model, plan, x):
    """Two steps: every planned parameter has a gradient by then, and no weight of the base model has moved."""
    parameters = list({id(tensor): tensor for tensor in trainable_tensors(model, plan)}.values())
    frozen = {name: value.clone() for name, value in base_model(model).named_parameters() if not value.requires_grad}
    optimizer = torch.optim.SGD(parameters, lr=0.05)
    generator = torch.Generator().manual_seed(1)
    for _ in range(2):
        optimizer.zero_grad()
        loss = sum((output * torch.randn(output.shape, generator=generator)).sum() for output in model(x))
        loss.backward()
        assert all(parameter.grad is not None for parameter in parameters)
        optimizer.step()
    assert all(bool(parameter.grad.any()) for parameter in parameters)
    for name, value in base_model(model).named_parameters():
        if name in frozen:
            assert torch.equal(value, frozen[name]), name
