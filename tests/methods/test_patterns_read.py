"""How PEFT reads the fields that let a setting differ between the modules of one adapter."""

from __future__ import annotations

import re

import peft
import pytest
from torch import nn

from surgery.inject.patterns import anchored, exactly
from surgery.methods import METHODS
from surgery.methods.setting import NOWHERE

pytestmark = pytest.mark.filterwarnings("ignore")
PATHS = ["up", "x.up", "y.x.up"]


def nested() -> nn.Module:
    """Three layers, the path of each one the ending of the next one's."""
    layers = [nn.Linear(12, 12) for _ in PATHS]
    inner = nn.ModuleDict({"up": layers[2]})
    return nn.ModuleDict({"up": layers[0], "x": nn.ModuleDict({"up": layers[1]}), "y": nn.ModuleDict({"x": inner})})


def sites(config):
    model = peft.get_peft_model(nested(), config).base_model.model
    return [model.get_submodule(path) for path in PATHS]


@pytest.mark.parametrize(
    ("config", "field", "container"),
    [
        (peft.FourierFTConfig, "n_frequency", "fourierft_n_frequency"),
        (peft.C3AConfig, "block_size", "block_size"),
    ],
)
def test_fourierft_and_c3a_really_cannot_tell_a_path_from_another_one_that_ends_in_it(config, field, container):
    def read(key):
        made = config(target_modules=".*up", **{field: 4, f"{field}_pattern": {key: 3}})
        return [getattr(site, container)["default"] for site in sites(made)]

    assert read("x.up") == [4, 3, 3]
    assert read(anchored(exactly(["x.up"]))) == [4, 4, 4]
    name = "fourierft" if config is peft.FourierFTConfig else "c3a"
    assert f"{field}_pattern" in METHODS[name].unsupported
    assert not METHODS[name].setting(field).per_site


@pytest.mark.parametrize(
    ("config", "setting", "container"),
    [
        (peft.WaveFTConfig, METHODS["waveft"].setting("n_frequency"), "waveft_n_frequency"),
        (peft.OSFConfig, METHODS["osf"].setting("effective_rank"), "effective_rank"),
    ],
)
def test_an_anchored_key_is_read_for_its_path_alone(config, setting, container):
    made = config(target_modules=".*up", **{setting.field: 4, setting.pattern: {anchored(exactly(["x.up"])): 3}})
    assert [getattr(site, container)["default"] for site in sites(made)] == [4, 3, 4]


def test_feed_forward_modules_are_named_by_one_expression():
    setting = METHODS["ia3"].setting("feedforward")
    for pattern in (r"x\.up", r"up|y\.x\.up", ".*", NOWHERE):
        made = peft.IA3Config(target_modules=".*up", **{setting.pattern: pattern})
        assert [site.is_feedforward for site in sites(made)] == [bool(re.fullmatch(pattern, path)) for path in PATHS]
