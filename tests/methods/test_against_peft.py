"""Settings, sizes, scales and identity, each compared with the installed PEFT."""

import dataclasses
import typing

import peft
import pytest
import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

from surgery.graph import Init, Module, Parameter
from surgery.methods import METHODS

LAYERS = {
    "linear": lambda: nn.Linear(12, 20),
    "linear_without_bias": lambda: nn.Linear(12, 20, bias=False),
    "conv1d": lambda: nn.Conv1d(8, 12, 3, padding=1),
    "conv1d_pointwise": lambda: nn.Conv1d(8, 12, 1),
    "conv1d_grouped": lambda: nn.Conv1d(8, 12, 3, padding=1, groups=4),
    "conv2d": lambda: nn.Conv2d(6, 10, (3, 5), padding=(1, 2)),
    "conv2d_grouped": lambda: nn.Conv2d(8, 12, 3, padding=1, groups=2),
    "embedding": lambda: nn.Embedding(30, 12),
    "transformers_conv1d": lambda: Conv1D(20, 12),
}
INPUTS = {
    "linear": lambda: torch.randn(2, 5, 12),
    "linear_without_bias": lambda: torch.randn(2, 5, 12),
    "conv1d": lambda: torch.randn(2, 8, 9),
    "conv1d_pointwise": lambda: torch.randn(2, 8, 9),
    "conv1d_grouped": lambda: torch.randn(2, 8, 9),
    "conv2d": lambda: torch.randn(2, 6, 9, 9),
    "conv2d_grouped": lambda: torch.randn(2, 8, 9, 9),
    "embedding": lambda: torch.randint(30, (2, 5)),
    "transformers_conv1d": lambda: torch.randn(2, 5, 12),
}
CHOICES = {
    "lora": [
        {"r": 4, "alpha": 8},
        {"r": 8, "alpha": 3, "rslora": True},
        {"r": 4, "alpha": 4, "dora": True},
        {"r": 4, "alpha": 0.5, "dropout": 0.25, "init": "gaussian"},
        {"r": 4, "alpha": 4, "init": False},
    ],
    "loha": [
        {"r": 3, "alpha": 6},
        {"r": 3, "alpha": 6, "effective_conv2d": True},
        {"r": 2, "alpha": 2, "init": False},
        {"r": 2, "alpha": 2, "rank_dropout": 0.1, "module_dropout": 0.1},
    ],
}
CASES = [
    pytest.param(method, name, given, id=f"{method}-{name}-{number}")
    for method in METHODS
    for name in LAYERS
    for number, given in enumerate(CHOICES[method])
]


def described(layer):
    """The graph's view of a live layer."""
    bases = tuple(cls.__name__ for cls in type(layer).__mro__ if issubclass(cls, nn.Module) and cls is not nn.Module)
    parameters = tuple(
        Parameter(name, tuple(value.shape), str(value.dtype).removeprefix("torch."), Init("random"), number)
        for number, (name, value) in enumerate(layer.named_parameters())
    )
    numbers = {"groups": layer.groups} if hasattr(layer, "groups") else {}
    return Module("layer", type(layer).__name__, bases, parameters, numbers)


def settings_of(method, given):
    return {setting.name: setting.default for setting in method.settings} | given


def adapted(method, layer, settings):
    config = getattr(peft, method.config)(target_modules=["0"], **method.fields(settings))
    return peft.get_peft_model(nn.Sequential(layer), config)


@pytest.mark.filterwarnings("ignore:LoRA adapter added to ConvNd layer with groups", "ignore:fan_in_fan_out")
@pytest.mark.parametrize(("method", "layer", "given"), CASES)
def test_refusals_sizes_scale_and_identity_are_what_peft_does(method, layer, given):
    method, build, inputs = METHODS[method], LAYERS[layer], INPUTS[layer]
    torch.manual_seed(0)
    base, settings = build(), settings_of(method, given)
    module = described(base)
    if reason := method.refusal(module, settings):
        if "wrong channels" in reason:
            return  # PEFT does build it; see below
        with pytest.raises((TypeError, ValueError, RuntimeError)):
            adapted(method, base, settings)
        return
    model = adapted(method, base, settings).eval()
    site = model.base_model.model[0]
    assert method.added(module, settings) == sum(p.numel() for n, p in site.named_parameters() if method.prefix in n)
    assert method.scale(module, settings) == site.scaling["default"]
    x = inputs()
    with torch.no_grad():
        fresh, original = model(x), site.base_layer(x)
    assert torch.equal(fresh, original) == method.is_identity(settings)


@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
def test_every_field_of_pefts_config_is_a_setting_or_says_why_not(method):
    config = getattr(peft, method.config)
    fields = {field.name for field in dataclasses.fields(config)}
    settings = {setting.field for setting in method.settings}
    assert settings | set(method.unsupported) == fields
    assert not settings & set(method.unsupported)
    assert str(config().peft_type.value) == method.peft_type


@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
def test_defaults_and_types_are_pefts(method):
    config = getattr(peft, method.config)
    hints = typing.get_type_hints(config)
    fields = {field.name: field for field in dataclasses.fields(config)}
    for setting in method.settings:
        default = fields[setting.field].default
        assert setting.default == default
        assert type(setting.default) is type(default)
        if setting.type == "choice":
            literals = {
                value
                for part in typing.get_args(hints[setting.field])
                for value in ([True, False] if part is bool else typing.get_args(part))
            }
            assert set(setting.choices) <= literals
            refused = {value for value in literals if method.unsupported_value(setting, value)}
            assert refused == literals - set(setting.choices)
        else:
            # PEFT annotates alpha as int and divides it: any number above 0 does.
            expected = {"int": int, "number": int, "probability": float, "bool": bool}[setting.type]
            assert hints[setting.field] is expected


def test_a_zero_weight_under_dora_really_makes_nan():
    layer = nn.Linear(6, 6)
    nn.init.zeros_(layer.weight)
    method = METHODS["lora"]
    settings = settings_of(method, {"dora": True})
    zero = Module("l", "Linear", ("Linear",), (Parameter("weight", (6, 6), "float32", Init("zero", "m.py:1"), 0),))
    assert "divides by the weight's norm" in method.refusal(zero, settings)
    assert adapted(method, layer, settings)(torch.randn(2, 6)).isnan().any()


def test_a_dilated_convolution_under_lora_really_fails():
    layer = nn.Conv1d(4, 4, 3, dilation=2)
    method = METHODS["lora"]
    module = dataclasses.replace(described(layer), numbers={"dilation": 2, "groups": 1})
    assert "dilation" in method.refusal(module, settings_of(method, {}))
    with pytest.raises(RuntimeError, match="size"):
        adapted(method, layer, settings_of(method, {}))(torch.randn(1, 4, 12))


def test_dora_on_a_grouped_convolution_really_takes_the_norm_of_another_matrix():
    torch.manual_seed(0)
    method, layer = METHODS["lora"], nn.Conv1d(4, 4, 1, groups=2, bias=False)
    site = adapted(method, layer, settings_of(method, {"r": 2, "alpha": 2, "dora": True})).base_model.model[0]
    nn.init.normal_(site.lora_B["default"].weight)
    up, down = site.lora_B["default"].weight, site.lora_A["default"].weight
    # The second output reads only its own group of the rank, so its update is along A's first row.
    update = site.lora_B["default"](site.lora_A["default"](torch.eye(4)[..., None]))[:, 1, 0]
    assert torch.allclose(update, up[1, 0, 0] * down[0, :, 0])
    dora = site.lora_magnitude_vector["default"]
    used = dora.get_lora_weight(site.lora_A["default"], site.lora_B["default"])
    assert used.shape == (2, 4)  # four outputs have an update, and it knows of two
