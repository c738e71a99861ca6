"""One more adapter for a model that carries some, against PEFT's own `add_adapter`."""

import copy
import warnings

import pytest
import torch
from adaptable_layers import LAYERS, described
from model_structure import first_difference, structure, traces
from peft import PeftModel
from peft.tuners.lora import LoraLayer
from torch import nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode

from surgery.diagnostics import SurgeryError
from surgery.inject import apply, base_model
from surgery.inject.adding import add_adapter
from surgery.inject.lowering import lower
from surgery.methods import METHODS


def layers(method="lora"):
    """Three modules of each kind that the method takes."""
    method = METHODS[method]
    settings = {setting.name: setting.default for setting in method.settings}
    kinds = [kind for kind, (build, _) in LAYERS.items() if not method.refusal(described(build()), settings)]
    torch.manual_seed(0)
    return nn.ModuleDict({kind: nn.ModuleList(LAYERS[kind][0]() for _ in range(3)) for kind in kinds}).eval()


def paths_of(model, which=slice(None)):
    return [f"{kind}.{i}" for kind in model for i in range(3)][which]


def adapted(model, plan_for, method, which=slice(None)):
    return apply(model, plan_for(model, {"first": (method, {"r": 4}, paths_of(model, which))}))


# Where the first adapter is and where the second, in a list of three modules of each kind.
PLACES = {
    "same": (slice(None), slice(None)),
    "other": (slice(0, None, 2), slice(1, None, 2)),
    "some": (slice(0, 9), slice(4, 20)),
}
SECOND = {
    "lora": {"r": 8, "alpha": 2, "rslora": True, "dropout": 0.1},
    "loha": {"r": 2, "rank_dropout": 0.1},
    "hra": {"r": 2},
}


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("places", PLACES)
@pytest.mark.parametrize("method", SECOND)
def test_the_model_is_as_after_pefts_own_add_adapter(method, places, dtype, plan_for):
    first, second = PLACES[places]
    model = layers(method).to(getattr(torch, dtype))
    plan = plan_for(model, {"second": (method, SECOND[method], paths_of(model, second))})
    config = lower(model, plan)[0].config
    ours, plain = (adapted(copy.deepcopy(model), plan_for, method, first) for _ in range(2))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        plain.add_adapter("second", copy.deepcopy(config))
    add_adapter(ours, plan.sites, "second")
    plain.eval().set_requires_grad("second", False)  # PEFT lets some of what it casts require gradients
    assert first_difference(structure(ours), structure(plain)) is None


def test_dora_and_methods_that_are_not_copied_are_added_by_peft(plan_for):
    model = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8), nn.Linear(8, 8)).to(torch.bfloat16)
    plan = plan_for(model, {"second": ("lora", {"r": 2, "dora": True}, ["0", "2"])})
    wrapped = apply(model, plan_for(model, {"first": ("lora", {"r": 4}, ["0", "1"])}))
    add_adapter(wrapped, plan.sites, "second")
    for at in ("0", "2"):
        layer = base_model(wrapped).get_submodule(at)
        norm = layer.get_base_layer().weight.float().norm(dim=1)
        assert torch.allclose(layer.lora_magnitude_vector["second"].weight, norm, rtol=1e-6)

    other = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8))
    third = plan_for(other, {"second": ("fourierft", {"n_frequency": 4}, ["0", "1"])})
    wrapped = apply(other, plan_for(other, {"first": ("fourierft", {"n_frequency": 4}, ["0", "1"])}))
    add_adapter(wrapped, third.sites, "second")
    assert [list(base_model(wrapped)[i].fourierft_spectrum) for i in range(2)] == [["first", "second"]] * 2


def test_it_can_be_switched_to_trained_and_saved(plan_for, tmp_path):
    model = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8), nn.LayerNorm(8))
    original, x = copy.deepcopy(model), torch.randn(3, 8)
    plan = plan_for(model, {"second": ("lora", {"r": 2}, ["0", "1"])})
    wrapped = apply(model, plan_for(model, {"first": ("lora", {"r": 4}, ["0"])}))
    before = wrapped(x)
    add_adapter(wrapped, plan.sites, "second", trained=["2"])
    assert torch.equal(wrapped(x), before)
    assert wrapped.active_adapters == ["first"]
    wrapped.set_adapter("second")
    trained = {name for name, p in wrapped.named_parameters() if p.requires_grad}
    assert trained == {
        *(f"base_model.model.{i}.lora_{side}.second.weight" for i in (0, 1) for side in "AB"),
        *(f"base_model.model.2.modules_to_save.second.{name}" for name in ("weight", "bias")),
    }
    for parameter in wrapped.parameters():
        if parameter.requires_grad:
            nn.init.normal_(parameter)
    wrapped.save_pretrained(tmp_path, selected_adapters=["second"])
    loaded = PeftModel.from_pretrained(original, tmp_path / "second")
    assert torch.equal(loaded(x), wrapped(x))


def test_on_meta_and_on_fake_tensors_nothing_is_materialised(plan_for):
    model = layers().to("meta")
    wrapped = adapted(model, plan_for, "lora", slice(0, 9))
    plan = plan_for(layers(), {"second": ("lora", {"r": 8}, paths_of(model))})
    add_adapter(wrapped, plan.sites, "second")
    assert all(tensor.is_meta for tensor in (*wrapped.parameters(), *wrapped.buffers()))
    with FakeTensorMode():
        model = layers()
    wrapped = adapted(model, plan_for, "lora", slice(0, 9))
    add_adapter(wrapped, plan.sites, "second")
    assert all(isinstance(parameter, FakeTensor) for parameter in wrapped.parameters())


REFUSALS = {
    "name-taken": ({"first": ("lora", {}, ["0"])}, "first", "E0406", "has an adapter `first` already"),
    "name-of-pytorch": ({"a": ("lora", {}, ["0"])}, "keys", "E0406", "cannot be the name"),
    "no-sites": ({}, "second", "E0406", "without sites"),
    "other-method": ({"a": ("loha", {}, ["0"])}, "second", "E0406", "cannot add loha to a model with LORA"),
    "two-configurations": (
        {"a": ("lora", {"dropout": 0.1}, ["0"]), "b": ("lora", {}, ["1"])},
        "second",
        "E0406",
        "several configurations",
    ),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_what_cannot_be_added_is_refused_before_anything_changes(case, plan_for):
    targets, name, code, text = REFUSALS[case]
    build = lambda: nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8), nn.Linear(8, 8))  # noqa: E731
    plan = plan_for(build(), targets)
    model = build()
    wrapped = apply(model, plan_for(model, {"first": ("lora", {"r": 4}, ["0", "1"])}))
    before = traces(wrapped)
    with pytest.raises(SurgeryError, match=text) as error:
        add_adapter(wrapped, plan.sites, name)
    assert {d.code for d in error.value.diagnostics} == {code}
    assert traces(wrapped) == before


def test_sites_of_another_model_are_refused(plan_for):
    plan = plan_for(nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 4)), {"a": ("lora", {}, ["0", "1"])})
    model = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8))
    wrapped = apply(model, plan_for(model, {"first": ("lora", {"r": 4}, ["0"])}))
    with pytest.raises(SurgeryError, match=r"`1` has a weight of shape \[8, 8\], the plan says \[4, 8\]"):
        add_adapter(wrapped, plan.sites, "second")


@pytest.mark.parametrize("at", [0, 3, 5, 11])
@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_a_failure_while_adding_leaves_no_trace(at, error, plan_for, monkeypatch):
    model = nn.ModuleList(nn.Linear(8 + i // 6, 8) for i in range(12))
    plan = plan_for(model, {"a": ("lora", {"r": 2}, [str(i) for i in range(12)])}, trained=[])
    wrapped = apply(model, plan_for(model, {"first": ("lora", {"r": 4}, [str(i) for i in range(0, 12, 2)])}))
    before = traces(wrapped)
    calls, real = [], LoraLayer.reset_lora_parameters

    def failing(*args):
        calls.append(args)
        if len(calls) > at:
            raise error("in the middle")
        return real(*args)

    with monkeypatch.context() as patch:
        patch.setattr("peft.tuners.lora.LoraLayer.reset_lora_parameters", failing)
        with pytest.raises(KeyboardInterrupt if error is KeyboardInterrupt else SurgeryError):
            add_adapter(wrapped, plan.sites, "second")
    assert traces(wrapped) == before
    add_adapter(wrapped, plan.sites, "second")
