"""Refusals, sizes, scales, starts and merges of every method on every kind of layer, each compared with PEFT's.

The settings tried are in `cases/METHOD.json`; `also_refused.json` there names what PEFT builds, but wrongly.
"""

from __future__ import annotations

import dataclasses
import json
from copy import deepcopy
from pathlib import Path

import peft
import pytest
import torch
from adaptable_layers import LAYERS, described
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import nn

from surgery.graph import Init, Module, Parameter
from surgery.methods import METHODS

HERE = Path(__file__).parent / "cases"
ALSO_REFUSED = json.loads((HERE / "also_refused.json").read_text(encoding="utf-8"))
CASES = [
    pytest.param(name, layer, given, id=f"{name}-{layer}-{number}")
    for name in METHODS
    for layer in LAYERS
    for number, given in enumerate(json.loads((HERE / f"{name}.json").read_text(encoding="utf-8")))
]
pytestmark = pytest.mark.filterwarnings("ignore")  # PEFT warns of much that a plan has decided


def settings_of(method, given):
    return {setting.name: setting.default for setting in method.settings} | given


def adapted(method, layers, settings):
    """The layers one after the other in a list, all of them adapted by plain PEFT."""
    base = Each(layers)
    names = [str(number) for number in range(len(layers))]
    conv1d = any(type(layer).__name__ == "Conv1D" for layer in layers)
    extra = {"fan_in_fan_out": conv1d} if "fan_in_fan_out" in method.unsupported else {}
    config = getattr(peft, method.config)(
        target_modules=rf"layers\.({'|'.join(names)})", **method.fields(settings), **extra
    )
    return peft.get_peft_model(base, config)


class Each(nn.Module):
    """Layers of one kind, each on an input of its own."""

    def __init__(self, layers):
        super().__init__()
        self.layers = nn.ModuleList(layers)

    def forward(self, x):
        return [layer(x) for layer in self.layers]


def parameters_of(model):
    return {id(parameter): parameter for parameter in model.parameters()}


def shake(model, known):
    """Move every parameter of the adapters a little, as training would."""
    with torch.no_grad():
        for key, parameter in parameters_of(model).items():
            if key not in known and parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter) * 0.05)


@pytest.mark.parametrize(("name", "layer", "given"), CASES)
def test_what_a_method_says_is_what_peft_does(name, layer, given):
    method, (build, inputs) = METHODS[name], LAYERS[layer]
    torch.manual_seed(0)
    layers, settings = [build(), build()], settings_of(method, given)
    modules = [described(one) for one in layers]
    if reason := method.conflict(settings) or method.refusal(modules[0], settings):
        check_refused(method, layer, layers, settings, inputs(), reason)
        return
    originals = deepcopy(layers)
    known = set(parameters_of(Each(layers)))
    model = adapted(method, layers, settings).eval()
    sites = list(model.base_model.model.layers)
    new = {key: parameter for key, parameter in parameters_of(model).items() if key not in known}
    added = [method.added(module, settings) for module in modules]
    frozen = sum(parameter.numel() for parameter in new.values() if not parameter.requires_grad)
    assert sum(method.frozen(module, settings) for module in modules) == frozen
    assert sum(added) + method.shared(modules, settings) == sum(parameter.numel() for parameter in new.values())
    scaling = getattr(sites[0], "scaling", None) or getattr(sites[0], f"{method.prefix}scaling", None)
    if isinstance(scaling, dict):
        assert method.scale(modules[0], settings) == scaling["default"]
    check_start(method, settings, model, Each(originals), inputs())
    check_weights(method, settings, sites, originals)
    shake(model, known)
    check_merge(method, modules[0], settings, model, inputs())


def exact_on(layer):
    """The cases that start exactly on a layer, by plain PEFT: `surgery.inject` makes it so for DoRA."""
    for name, method in METHODS.items():
        for number, given in enumerate(json.loads((HERE / f"{name}.json").read_text(encoding="utf-8"))):
            settings = settings_of(method, given)
            refused = method.conflict(settings) or method.refusal(described(layer), settings)
            if not refused and method.start(settings) == "exact" and not given.get("dora"):
                yield pytest.param(name, settings, id=f"{name}-{number}")


# So large that another order or precision of its sums shows.
WIDE = nn.Linear(240, 480, dtype=torch.bfloat16)


@pytest.mark.parametrize(("name", "settings"), exact_on(WIDE))
def test_an_exact_start_is_exact_in_half_precision(name, settings):
    torch.manual_seed(0)
    base, x = Each([WIDE]), torch.randn(64, 240, dtype=torch.bfloat16)
    model = adapted(METHODS[name], [deepcopy(WIDE)], settings).eval()
    with torch.no_grad():
        assert torch.equal(model(x)[0], base(x)[0])


def check_refused(method, layer, layers, settings, x, reason):
    """PEFT fails too, at the latest when it is called, or adapts nothing; or it is known to compute something else."""
    if any(part in reason for part in ALSO_REFUSED.get(method.name, {}).values()):
        return  # shown by a test of its own
    try:
        model = adapted(method, layers, settings)
        model(x)
    except (TypeError, ValueError, RuntimeError, NotImplementedError, AttributeError, LookupError):
        return
    assert not any(isinstance(module, BaseTunerLayer) for module in model.modules()), "PEFT adapts it"


def check_start(method, settings, model, original, x):
    starts = method.starts(settings)
    assert method.start(settings) == "exact" or not starts
    for site in model.base_model.model.layers:
        held = [(name, tensor) for name, tensor in tensors_of(site) if starts.keys() & {name, name.partition(".")[0]}]
        assert held or not starts
        for name, tensor in held:
            assert (tensor == starts.get(name, starts.get(name.partition(".")[0]))).all(), name
    with torch.no_grad():
        torch.manual_seed(0)
        fresh = model(x)
        torch.manual_seed(0)
        expected = original(x)
    equal = all(torch.equal(a, b) for a, b in zip(fresh, expected, strict=True))
    close = all(torch.allclose(a, b, atol=1e-5, rtol=1e-4) for a, b in zip(fresh, expected, strict=True))
    start = method.start(settings)
    assert equal if start == "exact" else close == (start == "close")


def tensors_of(site):
    """The adapter's parameters on a layer: `container`, or `container.parameter`."""
    for container in dict.fromkeys(site.adapter_layer_names):
        entry = getattr(site, container)
        if isinstance(entry, (nn.ParameterDict, nn.ModuleDict)) and "default" in entry:
            value = entry["default"]
            if isinstance(value, nn.Module):
                yield from ((f"{container}.{name}", tensor) for name, tensor in value.named_parameters())
            else:
                yield container, value


def check_weights(method, settings, sites, originals):
    """Whether applying changed a base weight."""
    changed = any(
        not torch.equal(value, before)
        for site, original in zip(sites, originals, strict=True)
        for value, before in zip(site.get_base_layer().parameters(), original.parameters(), strict=False)
        if value.shape == before.shape
    )
    assert changed == method.writes_weights(settings)


def check_merge(method, module, settings, model, x):
    with torch.no_grad():
        trained = model(x)
        base = base_outputs(model, x)
        assert any(not torch.equal(a, b) for a, b in zip(trained, base, strict=True)), "the adapter does nothing"
        if method.merging(module, settings) is None:
            merged = deepcopy(model).merge_and_unload(safe_merge=True)(x)
            for a, b in zip(merged, trained, strict=True):
                assert torch.allclose(a, b, atol=1e-4, rtol=1e-3)
            return
        try:
            merged = deepcopy(model).merge_and_unload(safe_merge=True)(x)
        except (NotImplementedError, ValueError, RuntimeError, AttributeError, TypeError, KeyError):
            return
        assert not all(torch.allclose(a, b, atol=1e-4, rtol=1e-3) for a, b in zip(merged, trained, strict=True))


def base_outputs(model, x):
    with model.disable_adapter():
        return model(x)


def test_a_zero_weight_under_dora_really_makes_nan():
    layer = nn.Linear(6, 6)
    nn.init.zeros_(layer.weight)
    method = METHODS["lora"]
    settings = settings_of(method, {"dora": True})
    zero = Module("l", "Linear", ("Linear",), (Parameter("weight", (6, 6), "float32", Init("zero", "m.py:1"), 0),))
    assert "divides by the weight's norm" in method.refusal(zero, settings)
    assert adapted(method, [layer], settings)(torch.randn(2, 6))[0].isnan().any()


def test_a_dilated_convolution_under_lora_really_fails():
    layer = nn.Conv1d(4, 4, 3, dilation=2)
    method = METHODS["lora"]
    module = dataclasses.replace(described(layer), numbers={"dilation": 2, "groups": 1})
    assert "dilation" in method.refusal(module, settings_of(method, {}))
    with pytest.raises(RuntimeError, match="size"):
        adapted(method, [layer], settings_of(method, {}))(torch.randn(1, 4, 12))


def test_dora_on_a_grouped_convolution_really_takes_the_norm_of_another_matrix():
    torch.manual_seed(0)
    method, layer = METHODS["lora"], nn.Conv1d(4, 4, 1, groups=2, bias=False)
    model = adapted(method, [layer], settings_of(method, {"r": 2, "alpha": 2, "dora": True}))
    site = model.base_model.model.layers[0]
    nn.init.normal_(site.lora_B["default"].weight)
    up, down = site.lora_B["default"].weight, site.lora_A["default"].weight
    # The second output reads only its own group of the rank, so its update is along A's first row.
    update = site.lora_B["default"](site.lora_A["default"](torch.eye(4)[..., None]))[:, 1, 0]
    assert torch.allclose(update, up[1, 0, 0] * down[0, :, 0])
    dora = site.lora_magnitude_vector["default"]
    used = dora.get_lora_weight(site.lora_A["default"], site.lora_B["default"])
    assert used.shape == (2, 4)  # four outputs have an update, and it knows of two
