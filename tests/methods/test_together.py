"""Two adapters of one method in one model, on different modules and both active: whether both act."""

from __future__ import annotations

import pytest
import torch
from test_several import Chain, case, with_two

from surgery.methods import METHODS

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.mark.parametrize("name", [name for name, method in METHODS.items() if method.several])
def test_both_adapters_act(name):
    torch.manual_seed(0)
    settings, build, inputs = case(name)
    model = with_two(name, settings, Chain([build() for _ in range(4)]), "0|1", "2|3")
    model.base_model.set_adapter(["first", "second"])
    x = inputs()
    with torch.no_grad():
        outputs = model(x)
        with model.disable_adapter():
            base = model(x)
    assert not any(torch.equal(found, before) for found, before in zip(outputs, base, strict=True))
    sum(output.square().sum() for output in model(x)).backward()
    for block in model.base_model.model.blocks:
        assert any(p.grad is not None and p.grad.any() for p in block.parameters() if p.requires_grad)


def test_a_second_adapter_of_osf_really_does_nothing_beside_the_first():
    model = with_two("osf", *made("osf"))
    model.base_model.set_adapter(["first", "second"])
    x = torch.randn(2, 12)
    with model.disable_adapter():
        base = model(x)
    assert [torch.equal(a, b) for a, b in zip(model(x), base, strict=True)] == [False, True]


def test_a_second_adapter_of_ln_tuning_really_fails_beside_the_first():
    model = with_two("ln_tuning", *made("ln_tuning"))
    model.base_model.set_adapter(["first", "second"])
    with pytest.raises(ValueError, match="2 active adapters"):
        model(torch.randn(2, 12))


def made(name):
    layer = torch.nn.Linear if name == "osf" else lambda width, _: torch.nn.LayerNorm(width)
    assert not METHODS[name].several
    settings = {setting.name: setting.default for setting in METHODS[name].settings}
    return settings, Chain([layer(12, 12) for _ in range(2)]), "0", "1"
