"""What PEFT writes into the file of an adapter beside the parameters that a plan counts."""

from __future__ import annotations

import json
from pathlib import Path

import peft
import pytest
from adaptable_layers import LAYERS, described
from torch import nn

from surgery.methods import METHODS

CASES = Path(__file__).parent / "cases"
pytestmark = pytest.mark.filterwarnings("ignore")


def cases():
    for name, method in METHODS.items():
        build, _ = LAYERS["layer_norm" if name == "ln_tuning" else "linear"]
        for number, given in enumerate(json.loads((CASES / f"{name}.json").read_text(encoding="utf-8"))):
            settings = {setting.name: setting.default for setting in method.settings} | given
            if not (method.conflict(settings) or method.refusal(described(build()), settings)):
                yield pytest.param(method, settings, build, id=f"{name}-{number}")


@pytest.mark.parametrize(("method", "settings", "build"), cases())
def test_what_is_saved_beside_the_parameters_is_named(method, settings, build):
    base = nn.ModuleDict({"a": build(), "b": build()})
    modules = [described(layer, path) for path, layer in base.items()]
    config = getattr(peft, method.config)(target_modules="[ab]", **method.fields(settings))
    saved = peft.get_peft_model_state_dict(peft.get_peft_model(base, config), save_embedding_layers=False)
    counted = sum(method.added(module, settings) for module in modules) + method.shared(modules, settings)
    more = sum(tensor.numel() for tensor in saved.values()) > counted
    assert bool(method.saved_besides(settings)) == more, sorted(saved)
