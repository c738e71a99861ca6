"""Two adapters of one method in one model, which plain PEFT saves and then loads one without the other."""

from __future__ import annotations

import json
from copy import deepcopy
from pathlib import Path

import peft
import pytest
import torch
from adaptable_layers import LAYERS, described
from torch import nn

from surgery.methods import METHODS

CASES = Path(__file__).parent / "cases"
SEVERAL = [name for name, method in METHODS.items() if method.several]
pytestmark = pytest.mark.filterwarnings("ignore")


class Chain(nn.Module):
    def __init__(self, layers):
        super().__init__()
        self.blocks = nn.ModuleList(layers)

    def forward(self, x):
        return [block(x) for block in self.blocks]


def case(name):
    """The first settings and the first layer that go together."""
    method = METHODS[name]
    for given in json.loads((CASES / f"{name}.json").read_text(encoding="utf-8")):
        settings = {setting.name: setting.default for setting in method.settings} | given
        for build, inputs in LAYERS.values():
            if not (method.conflict(settings) or method.refusal(described(build()), settings)):
                return settings, build, inputs
    raise AssertionError(f"no case of {name} is accepted")


def config(name, settings, blocks):
    method = METHODS[name]
    return getattr(peft, method.config)(target_modules=rf"blocks\.({blocks})", **method.fields(settings))


def with_two(name, settings, base, first, second):
    model = peft.get_peft_model(base, config(name, settings, first), adapter_name="first")
    model.add_adapter("second", config(name, settings, second))
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            if ".first" in key or ".second" in key:
                parameter.add_(torch.randn_like(parameter) * 0.05)
    return model.eval()


@pytest.mark.parametrize("name", SEVERAL)
def test_the_second_of_two_adapters_loads_alone(name, tmp_path):
    torch.manual_seed(0)
    settings, build, inputs = case(name)
    base, x = Chain([build() for _ in range(4)]), inputs()
    original = deepcopy(base)
    model = with_two(name, settings, base, "0|1", "2|3")
    model.set_adapter("second")
    expected = model(x)
    model.save_pretrained(str(tmp_path))
    loaded = peft.PeftModel.from_pretrained(original, str(tmp_path / "second")).eval()
    for found, wanted in zip(loaded(x), expected, strict=True):
        assert torch.allclose(found, wanted, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("name", ["vera", "pvera", "randlora"])
def test_a_second_adapter_on_smaller_layers_really_does_not_load_alone(name, tmp_path):
    settings = {setting.name: setting.default for setting in METHODS[name].settings} | {"r": 4}
    base = Chain([nn.Linear(12, 20), nn.Linear(12, 8)])
    original = deepcopy(base)
    with_two(name, settings, base, "0", "1").save_pretrained(str(tmp_path))
    with pytest.raises(RuntimeError, match="size mismatch"):
        peft.PeftModel.from_pretrained(original, str(tmp_path / "second"))


def test_two_adapters_of_trainable_tokens_really_fail_together():
    settings = {"token_indices": [2, 5], "init": True}
    model = with_two("trainable_tokens", settings, Chain([nn.Embedding(9, 4) for _ in range(2)]), "0", "1")
    model.base_model.set_adapter(["first", "second"])
    with pytest.raises(KeyError, match="second"):
        model(torch.tensor([2]))


def test_a_second_adapter_of_lily_really_shares_nothing():
    settings = {setting.name: setting.default for setting in METHODS["lily"].settings} | {"r": 4, "stride_A": 2}
    model = with_two("lily", settings, Chain([nn.Linear(12, 20) for _ in range(4)]), "0|1", "2|3")
    blocks = model.base_model.model.blocks
    assert blocks[0].lily_A["first"] is blocks[1].lily_A["first"]
    assert blocks[0].lily_B["first"] is blocks[1].lily_B["first"]
    assert blocks[2].lily_A["second"] is not blocks[3].lily_A["second"]
    assert blocks[2].lily_B["second"] is not blocks[3].lily_B["second"]
