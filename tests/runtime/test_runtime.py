"""What each call of the runtime does to a model that is not compiled."""

import threading

import pytest
import torch
from peft import LoraConfig, PeftModel
from peft.tuners.lora import LoraLayer

import surgery
import surgery.inject
from surgery.diagnostics import SurgeryError

CLOSE = {"rtol": 1e-5, "atol": 1e-5}  # a product with rows of zeros may be summed in another order


@pytest.fixture
def first(adapters):
    return adapters.saved("first", adapters.plan("lora { r = 4  alpha = 8 }"))


@pytest.fixture
def second(adapters):
    return adapters.saved("second", adapters.plan("lora { r = 8  alpha = 4 rslora = true }"), seed=2)


@pytest.fixture
def runtime(adapters, first):
    """A model with a fresh adapter called `default`, and `first` loaded."""
    model = adapters.adapted(first.plan).eval()
    runtime = surgery.Runtime(model, first.plan)
    runtime.load("first", first.folder)
    runtime.model = model
    return runtime


def flags(model):
    return [(p.requires_grad, id(p)) for p in model.parameters()], [module.training for module in model.modules()]


def refused(call, *args, **kwargs):
    """The one diagnostic that a call is refused with."""
    with pytest.raises(SurgeryError) as raised:
        call(*args, **kwargs)
    (found,) = raised.value.diagnostics
    assert found.code == "E0520"
    return found


def test_switch_to_a_loaded_adapter_and_back(runtime, adapters, first):
    before = flags(runtime.model)
    change = runtime.switch("first")
    assert len(change.loaded) == 28
    assert (change.adapter, change.not_loaded, change.silent) == ("first", (), ())
    assert torch.equal(adapters.outputs(runtime.model), first.expected)
    runtime.switch("default")
    assert torch.equal(adapters.outputs(runtime.model), adapters.base)
    assert (runtime.names, runtime.active) == (("default", "first"), "default")
    assert flags(runtime.model) == before


def test_what_was_trained_in_the_model_is_kept_over_a_switch(runtime, adapters):
    with torch.no_grad():
        for parameter in runtime.model.parameters():
            if parameter.requires_grad:
                parameter.fill_(0.01)
    trained = adapters.outputs(runtime.model)
    assert not torch.equal(trained, adapters.base)
    runtime.switch("first")
    assert all(bool((tensor == 0.01).all()) for tensor in runtime.state("default").values())
    runtime.switch("default")
    assert torch.equal(adapters.outputs(runtime.model), trained)


def test_disabled_it_is_the_base_model_whatever_is_switched_to(runtime, adapters, first):
    before = flags(runtime.model)
    runtime.switch("first")
    change = runtime.disable()
    assert (len(change.loaded), change.not_loaded) == (14, ())
    assert not runtime.enabled
    assert torch.equal(adapters.outputs(runtime.model), adapters.base)
    runtime.switch("default")
    runtime.switch("first")
    assert torch.equal(adapters.outputs(runtime.model), adapters.base)
    runtime.enable()
    assert torch.equal(adapters.outputs(runtime.model), first.expected)
    assert flags(runtime.model) == before


def test_the_factor_multiplies_the_update_and_stays_with_the_adapter(runtime, adapters, first):
    runtime.switch("first")
    runtime.scale(0)
    assert torch.equal(adapters.outputs(runtime.model), adapters.base)
    runtime.scale(-0.5)
    scales = {m.scaling["default"] for m in runtime.model.modules() if isinstance(m, LoraLayer)}
    assert scales == {-0.5 * 8 / 4}
    runtime.switch("default")
    assert {m.scaling["default"] for m in runtime.model.modules() if isinstance(m, LoraLayer)} == {2.0}
    runtime.scale(1, "first")
    runtime.switch("first")
    assert torch.equal(adapters.outputs(runtime.model), first.expected)


def test_replace_the_active_adapter_and_an_inactive_one(runtime, adapters, first):
    other = adapters.saved("other", first.plan, seed=3)
    runtime.replace("default", other.folder)
    assert torch.equal(adapters.outputs(runtime.model), other.expected)
    runtime.replace("first", other.folder)
    assert runtime.active == "default"
    runtime.replace("default", first.folder)
    assert torch.equal(adapters.outputs(runtime.model), first.expected)
    runtime.switch("first")
    assert torch.equal(adapters.outputs(runtime.model), other.expected)


def test_replacing_writes_into_the_model_alone(runtime, adapters, first):
    given = {key: tensor.clone() for key, tensor in runtime.state("first").items()}
    kept = {key: tensor.clone() for key, tensor in given.items()}
    runtime.replace("default", given)
    with torch.no_grad():
        for parameter in runtime.model.parameters():
            if parameter.requires_grad:
                parameter.zero_()
    runtime.switch("first")
    assert all(torch.equal(given[key], kept[key]) for key in kept)
    again = surgery.Runtime(adapters.adapted(first.plan), first.plan)
    again.replace("default", first.folder)
    assert torch.equal(adapters.outputs(again._model.eval()), first.expected)


def test_unload_forgets_an_adapter_that_is_not_in_the_model(runtime):
    assert "`switch` to another" in refused(runtime.unload, "default").helps[0]
    change = runtime.unload("first")
    assert (len(change.loaded), change.not_loaded) == (28, ())
    assert runtime.names == ("default",)
    assert "no adapter is called `first`" in refused(runtime.switch, "first").message


def test_another_rank_needs_a_prepared_model(runtime, adapters, first, second):
    found = refused(runtime.load, "second", second.folder)
    assert "rank 8, above the model's 4: `prepare` it for 8" in found.notes[-1]
    runtime.prepare(8)
    runtime.load("second", second.folder)
    runtime.switch("second")
    assert torch.equal(adapters.outputs(runtime.model), second.expected)
    runtime.switch("first")
    torch.testing.assert_close(adapters.outputs(runtime.model), first.expected, **CLOSE)
    assert runtime.max_rank == 8


def test_preparing_leaves_the_adapter_as_it_is_and_can_be_undone(runtime, adapters, first):
    runtime.switch("first")
    before, state = flags(runtime.model), runtime.state()
    runtime.prepare(16)
    shapes = {tuple(p.shape) for p in runtime.model.parameters() if p.requires_grad}
    assert all(16 in shape for shape in shapes)
    assert flags(runtime.model) == before
    torch.testing.assert_close(adapters.outputs(runtime.model), first.expected, **CLOSE)
    same(runtime.state(), state)
    runtime.disable()
    assert torch.equal(adapters.outputs(runtime.model), adapters.base)
    runtime.unprepare()
    assert torch.equal(adapters.outputs(runtime.model), adapters.base)
    runtime.enable()
    assert torch.equal(adapters.outputs(runtime.model), first.expected)
    assert flags(runtime.model) == before
    assert surgery.inject.compare.compare(runtime.model, first.plan) == []


def same(left, right):
    assert left.keys() == right.keys()
    assert all(torch.equal(left[key], right[key]) for key in left)


@pytest.mark.parametrize("prepared", [False, True])
def test_saved_again_it_is_the_same_adapter_for_plain_peft(runtime, adapters, first, second, tmp_path, prepared):
    name, saved = ("second", second) if prepared else ("first", first)
    if prepared:
        runtime.prepare(16)
        runtime.load("second", second.folder)
    runtime.switch(name)
    runtime.save(tmp_path / "again")
    runtime.switch("default")
    runtime.save(tmp_path / "again", name)
    model = PeftModel.from_pretrained(adapters.build(), str(tmp_path / "again"))
    assert torch.equal(adapters.outputs(model), saved.expected)
    weights = "adapter_model.safetensors"
    assert (tmp_path / "again" / weights).read_bytes() == (saved.folder / weights).read_bytes()


def test_sums_are_exact_in_their_weights(runtime, adapters, first, second):
    assert "`prepare` the model for it" in refused(runtime.combine, "half", {"first": 0.5, "default": 0.5}).notes[0]
    runtime.prepare(16)
    runtime.combine("nothing", {"default": 1.0})
    runtime.load("second", second.folder)
    change = runtime.combine("sum", {"first": 0.75, "second": -0.5})
    assert (len(change.loaded), change.not_loaded) == (28, ())
    runtime.switch("sum")
    deltas = deltas_of(runtime.model)
    for name, weight in (("first", 0.75), ("second", -0.5)):
        runtime.switch(name)
        for path, delta in deltas_of(runtime.model).items():
            deltas[path] -= weight * delta
    assert max(delta.abs().max() for delta in deltas.values()) < 1e-6


def test_sums_that_are_none(runtime):
    runtime.prepare(8)
    assert "nothing to sum" in refused(runtime.combine, "empty", {}).notes[0]
    assert "smaller weights" in refused(runtime.combine, "huge", {"first": 1e300}).notes[0]
    assert runtime.names == ("default", "first")


def deltas_of(model):
    with torch.no_grad():
        return {
            path: module.get_delta_weight("default").clone()
            for path, module in model.named_modules()
            if isinstance(module, LoraLayer)
        }


@pytest.mark.parametrize("error", [KeyboardInterrupt, torch.OutOfMemoryError])
def test_preparing_that_fails_half_way_leaves_the_model_as_it_was(runtime, adapters, first, error, monkeypatch):
    runtime.switch("first")
    before = {name: tensor.clone() for name, tensor in runtime.model.state_dict().items()}
    make, calls = torch.tensor, []

    def failing(*args, **kwargs):
        calls.append(args)
        if len(calls) == 3:
            raise error
        return make(*args, **kwargs)

    monkeypatch.setattr(torch, "tensor", failing)
    with pytest.raises(error):
        runtime.prepare(16)
    monkeypatch.undo()
    assert runtime.max_rank is None
    after = runtime.model.state_dict()
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())
    layers = [module for module in runtime.model.modules() if isinstance(module, LoraLayer)]
    assert all(type(layer.scaling["default"]) is float for layer in layers)
    runtime.switch("default")
    runtime.switch("first")
    assert torch.equal(adapters.outputs(runtime.model), first.expected)


def test_undone_there_is_room_for_the_rank_in_the_model_alone(runtime, adapters, first, second):
    runtime.prepare(8)
    runtime.load("second", second.folder)
    for name, reason in (("first", "rank 8, above the model's 4"), ("second", "rank 4, in the model 8")):
        runtime.switch(name)
        runtime.unprepare()
        other = "second" if name == "first" else "first"
        assert refused(runtime.switch, other).notes[0].startswith(reason)
        expected = first.expected if name == "first" else second.expected
        torch.testing.assert_close(adapters.outputs(runtime.model), expected, **CLOSE)
        runtime.prepare(8)


def test_using_an_adapter_for_a_block_holds_the_turn(runtime, adapters, first):
    seen = []

    def use(name):
        for _ in range(5):
            with runtime.using(name):
                seen.append((name, adapters.outputs(runtime.model)))

    threads = [threading.Thread(target=use, args=(name,)) for name in ("default", "first")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(seen) == 10
    expected = {"default": adapters.base, "first": first.expected}
    assert all(torch.equal(found, expected[name]) for name, found in seen)
    assert runtime.active == "default"


def test_an_interrupted_swap_leaves_the_adapter_that_was_there(runtime, adapters, first, monkeypatch):
    copies = torch._foreach_copy_
    calls = []

    def interrupted(targets, sources):
        calls.append(len(targets))
        if len(calls) == 2:  # the first takes out what is there
            copies(targets[:5], sources[:5])
            raise KeyboardInterrupt
        copies(targets, sources)

    monkeypatch.setattr(torch, "_foreach_copy_", interrupted)
    with pytest.raises(KeyboardInterrupt):
        runtime.switch("first")
    assert calls == [28, 28, 28]
    assert torch.equal(adapters.outputs(runtime.model), adapters.base)
    assert runtime.active == "default"
    runtime.switch("first")
    assert torch.equal(adapters.outputs(runtime.model), first.expected)


def test_a_model_that_was_moved_is_followed(runtime, adapters, first):
    runtime.prepare(8)
    runtime.model.to(torch.float64)
    runtime.switch("first")
    expected = adapters.adapted(first.plan).eval()
    surgery.inject.load_adapters(expected, first.plan, first.folder)
    torch.testing.assert_close(adapters.outputs(runtime.model), adapters.outputs(expected.to(torch.float64)))


def test_what_something_else_did_to_the_model_is_found(runtime, first):
    runtime.prepare(8)
    runtime.model.delete_adapter("default")
    with pytest.raises(SurgeryError) as raised:
        runtime.switch("first")
    assert raised.value.diagnostics[0].code == "E0509"


def test_adapters_that_peft_does_not_call_are_not_swapped(runtime, adapters):
    runtime.model.merge_adapter()
    assert "call `unmerge_adapter()`" in refused(runtime.switch, "first").notes[0]
    runtime.model.unmerge_adapter()
    runtime.model.add_adapter("another", runtime.model.peft_config["default"])
    runtime.model.set_adapter("another")
    assert "call `set_adapter`" in refused(runtime.switch, "first").notes[0]
    runtime.model.set_adapter("default")
    assert runtime.switch("first").not_loaded == ()


def test_an_adapter_that_peft_calls_beside_is_found(runtime):
    """The model would compute the sum of both, and not its base model when the runtime's adapter is off."""
    runtime.model.add_adapter("another", runtime.model.peft_config["default"])
    runtime.model.base_model.set_adapter(["default", "another"])
    assert "together with another one" in refused(runtime.switch, "first").notes[0]
    assert "together with another one" in refused(runtime.disable).notes[0]


def test_adapters_that_peft_switched_off_are_not_swapped(runtime, adapters, first):
    with runtime.model.disable_adapter():
        found = [refused(runtime.switch, "first"), refused(runtime.replace, "default", first.folder)]
        found.append(refused(runtime.scale, 0.5))
        assert all(one.notes[0].startswith("switched off in PEFT: call `enable()`") for one in found)
        assert all(not tensor.any() for key, tensor in runtime.state().items() if "lora_B" in key)
        runtime.enable()
        runtime.switch("first")
        assert torch.equal(adapters.outputs(runtime.model), first.expected)


def test_in_inference_mode(adapters, first, second):
    """What is prepared, loaded and swapped there can be used and written to outside of it, and the other way round."""
    model = adapters.adapted(first.plan).eval()
    runtime = surgery.Runtime(model, first.plan)
    with torch.inference_mode():
        runtime.prepare(8)
        runtime.load("first", first.folder)
        runtime.switch("first")
        runtime.disable()
    runtime.enable()
    runtime.load("second", second.folder)
    runtime.switch("second")
    assert torch.equal(adapters.outputs(model), second.expected)
    model(**adapters.inputs).logits.sum().backward()
    with torch.inference_mode():
        runtime.switch("first")
    torch.testing.assert_close(adapters.outputs(model), first.expected, **CLOSE)


@pytest.mark.parametrize("factor", [float("nan"), float("inf")])
def test_a_factor_is_finite(runtime, factor):
    assert "no factor" in refused(runtime.scale, factor).message


@pytest.mark.parametrize("prepared", [False, True])
def test_a_scale_that_single_precision_does_not_have(runtime, adapters, first, prepared):
    if prepared:
        runtime.prepare(4)
    runtime.switch("first")
    assert "beyond single precision" in refused(runtime.scale, 1e300).message
    torch.testing.assert_close(adapters.outputs(runtime.model), first.expected, **CLOSE)


def test_names_are_held_once(runtime, first):
    assert "already" in refused(runtime.load, "first", first.folder).message
    assert "already" in refused(runtime.combine, "first", {"default": 1.0}).message
    assert "no adapter is called `none`" in refused(runtime.replace, "none", first.folder).message


def test_a_model_without_adapters_is_refused(adapters, first):
    assert "no PEFT adapters" in refused(surgery.Runtime, adapters.build(), first.plan).message
    for call, argument in ((surgery.load_adapter, first.folder), (surgery.verify, adapters.inputs)):
        with pytest.raises(SurgeryError, match="carries no PEFT adapters") as raised:
            call(adapters.build(), first.plan, argument)
        assert raised.value.diagnostics[0].code == "E0509"


def test_a_module_that_another_adapter_trains_is_left_alone(adapters, first):
    plan = adapters.plan("lora { r = 4  alpha = 8 }", more='train { select path("lm_head") }')
    saved = adapters.saved("trained", plan)
    for planned, source in ((plan, saved), (first.plan, first)):
        model = adapters.adapted(planned).eval()
        config = LoraConfig(target_modules=["q_proj"], modules_to_save=["lm_head"])
        model.add_adapter("another", config)
        runtime = surgery.Runtime(model, planned)
        runtime.load("saved", source.folder)
        runtime.switch("saved")
        assert torch.equal(adapters.outputs(model), source.expected)
        surgery.load_adapter(model, planned, source.folder)


def test_a_model_of_another_plan_is_refused(adapters, first, second):
    assert "rank 4, expected 8" in refused(surgery.Runtime, adapters.adapted(first.plan), second.plan).notes[0]


def test_a_prepared_model_is_not_saved_as_if_it_were_the_plans(runtime, first, tmp_path):
    runtime.prepare(max_rank=16)
    with pytest.raises(SurgeryError) as raised:
        surgery.inject.save_adapters(runtime.model, first.plan, tmp_path / "padded")
    assert [found.code for found in raised.value.diagnostics] == ["E0509"]
    assert not (tmp_path / "padded").exists()
    runtime.unprepare()
    surgery.inject.save_adapters(runtime.model, first.plan, tmp_path / "padded")
