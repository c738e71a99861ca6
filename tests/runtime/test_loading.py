"""What is loaded, from where, and what is refused before anything is copied."""

import json
import warnings

import pytest
import torch
from peft import LoHaConfig, LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file

import surgery
from surgery.diagnostics import SurgeryError

CLOSE = {"rtol": 1e-5, "atol": 1e-5}
WEIGHTS, CONFIG = "adapter_model.safetensors", "adapter_config.json"
ATTENTION = 'path("model.layers.*.self_attn.*_proj")'


@pytest.fixture
def first(adapters):
    return adapters.saved("first", adapters.plan("lora { r = 4  alpha = 8 }"))


@pytest.fixture
def runtime(adapters, first):
    model = adapters.adapted(first.plan).eval()
    runtime = surgery.Runtime(model, first.plan)
    runtime.model = model
    return runtime


def values(model):
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def refusal(runtime, source, **kwargs):
    """Why an adapter is refused, to load it and to put it in the model at once; the model is as before."""
    before, names = values(runtime.model), runtime.names
    found = []
    for call in (lambda: runtime.load("other", source, **kwargs), lambda: runtime.replace("default", source, **kwargs)):
        with pytest.raises(SurgeryError) as raised:
            call()
        (diagnostic,) = raised.value.diagnostics
        found.append((diagnostic.code, diagnostic.notes))
    assert found[0] == found[1]
    assert runtime.names == names
    after = values(runtime.model)
    assert all(torch.equal(before[name], after[name]) for name in before)
    return found[0]


def test_what_plain_peft_saved_with_patterns(adapters, first, tmp_path):
    """Ranks and alphas that differ from module to module, by PEFT's own patterns and its own saving."""
    torch.manual_seed(3)
    config = LoraConfig(
        r=2,
        lora_alpha=6,
        use_rslora=True,
        target_modules=r"model\.layers\.\d\.(self_attn|mlp)\..*_proj",
        rank_pattern={"q_proj": 4, r"layers\.1\.mlp\.up_proj": 3},
        alpha_pattern={"v_proj": 1},
        init_lora_weights=False,
    )
    theirs = get_peft_model(adapters.build(), config).eval()
    theirs.save_pretrained(tmp_path / "peft")
    expected = adapters.outputs(theirs)
    model = adapters.adapted(first.plan).eval()
    runtime = surgery.Runtime(model, first.plan)
    runtime.prepare(4)
    runtime.load("theirs", tmp_path / "peft")
    runtime.switch("theirs")
    torch.testing.assert_close(adapters.outputs(model), expected, **CLOSE)
    runtime.save(tmp_path / "again")
    again = PeftModel.from_pretrained(adapters.build(), str(tmp_path / "again"))
    assert torch.equal(adapters.outputs(again), expected)


def test_tensors_in_memory_are_applied_as_the_plan_says_or_as_a_configuration_does(runtime, adapters, first):
    tensors = load_file(first.folder / WEIGHTS)
    runtime.load("planned", tensors)
    runtime.switch("planned")
    assert torch.equal(adapters.outputs(runtime.model), first.expected)
    config = json.loads((first.folder / CONFIG).read_text())
    runtime.load("doubled", {key: tensor / 2 if "lora_B" in key else tensor for key, tensor in tensors.items()},
                 config={**config, "lora_alpha": 16})  # fmt: skip
    runtime.switch("doubled")
    assert torch.equal(adapters.outputs(runtime.model), first.expected)


def test_another_dtype_is_cast_to_the_models(runtime, adapters, first):
    tensors = {key: tensor.bfloat16() for key, tensor in load_file(first.folder / WEIGHTS).items()}
    runtime.replace("default", tensors)
    assert {tensor.dtype for tensor in runtime.state().values()} == {torch.float32}
    assert all(torch.equal(tensor, tensors[key].float()) for key, tensor in runtime.state().items())


def test_a_subset_of_the_modules_by_its_own_plan(runtime, adapters, first):
    part = adapters.saved("part", adapters.plan("lora { r = 4  alpha = 2 }", ATTENTION), seed=5)
    code, notes = refusal(runtime, part.folder)
    assert code == "E0520"
    assert notes[0].startswith("not in the adapter: base_model.model.model.layers.0.mlp")
    change = runtime.load("part", part.folder, plan=part.plan)
    assert len(change.loaded) == 16
    assert [path.split(".")[3] for path in change.silent] == ["mlp"] * 6
    runtime.replace("default", first.folder)
    runtime.switch("part")
    assert torch.equal(adapters.outputs(runtime.model), part.expected)
    runtime.switch("default")
    assert torch.equal(adapters.outputs(runtime.model), first.expected)


def test_more_modules_than_the_model_has_are_refused(adapters, first):
    part = adapters.plan("lora { r = 4 }", ATTENTION)
    model = adapters.adapted(part).eval()
    runtime = surgery.Runtime(model, part)
    runtime.model = model
    code, notes = refusal(runtime, first.folder)
    assert (code, notes[0].partition(":")[0]) == ("E0520", "not in the model")
    code, notes = refusal(runtime, first.folder, plan=first.plan)
    assert (code, notes[0].partition(":")[0]) == ("E0520", "adapted by it, and not in the prepared model")


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda t: t.popitem(), "not in the adapter: "),
        (lambda t: t.update(extra=torch.zeros(1)), "not in the model: extra"),
        (lambda t: t.update({next(iter(t)): torch.zeros(4, 5)}), "of shape [4, 5], where [4, 48] is needed: "),
        (lambda t: t.update({next(iter(t)): torch.zeros(4, 48, device="meta")}), "no dense tensor with values: "),
        (lambda t: t.update({next(iter(t)): torch.zeros(4, 48).to_sparse()}), "no dense tensor with values: "),
        (lambda t: t.update({next(iter(t)): [0.0]}), "no dense tensor with values: "),
        (lambda t: t.update({k: v.int() for k, v in list(t.items())[:1]}), "of torch.int32, which is not cast to"),
    ],
)
def test_tensors_that_are_no_bijection(runtime, first, damage, reason):
    tensors = load_file(first.folder / WEIGHTS)
    damage(tensors)
    code, notes = refusal(runtime, tensors)
    assert code == "E0520"
    assert any(note.startswith(reason) for note in notes), notes


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"use_dora": True}, "its configuration sets use_dora = true, the plan false"),
        ({"bias": "all"}, "its configuration sets bias = all, the plan none"),
        ({"layer_replication": [[0, 2]]}, "its configuration sets layer_replication = [[0, 2]], the plan none"),
        ({"init_lora_weights": "pissa"}, "its configuration sets init_lora_weights = pissa, which changes the base"),
        ({"peft_type": "LOHA"}, "its configuration is of LOHA, the plan of LORA"),
        ({"r": 5}, "rank 5, above the model's 4"),
        ({"rank_pattern": {"q_proj": 3}}, "rank 3, in the model 4: `prepare` it for 4"),
        ({"a_field_of_a_later_version": 1}, "its configuration sets a_field_of_a_later_version = 1, the plan none"),
    ],
)
def test_configurations_that_say_something_else(runtime, first, change, reason):
    config = json.loads((first.folder / CONFIG).read_text())
    (first.folder / CONFIG).write_text(json.dumps({**config, **change}))
    code, notes = refusal(runtime, first.folder)
    assert code == "E0520"
    assert any(note.startswith(reason) for note in notes), notes


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"r": 0}, "its configuration has r = 0"),
        ({"r": 4.5}, "its configuration has r = 4.5"),
        ({"r": None}, "its configuration has r = None"),
        ({"rank_pattern": {"q_proj": "4"}}, "its configuration has r = '4'"),
        ({"rank_pattern": ["q_proj"]}, "the rank_pattern of its configuration cannot be read: "),
        ({"rank_pattern": {"(": 4}}, "the rank_pattern of its configuration cannot be read: "),
        ({"alpha_pattern": {"q_proj": float("nan")}}, "its configuration has lora_alpha = nan"),
        ({"lora_alpha": float("inf")}, "its configuration has lora_alpha = inf"),
        ({"lora_alpha": "8"}, "its configuration has lora_alpha = '8'"),
        ({"lora_alpha": 10**400}, "its configuration has lora_alpha = 1000"),
        ({"use_rslora": "no"}, "its configuration has use_rslora = 'no'"),
    ],
)
def test_configurations_that_are_damaged(runtime, first, change, reason):
    config = json.loads((first.folder / CONFIG).read_text())
    (first.folder / CONFIG).write_text(json.dumps({**config, **change}))
    code, notes = refusal(runtime, first.folder)
    assert code == "E0520"
    assert any(note.startswith(reason) for note in notes), notes


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_numbers_that_are_not_finite_are_refused(runtime, first, value):
    tensors = load_file(first.folder / WEIGHTS)
    key = list(tensors)[5]
    tensors[key][0, 0] = value
    code, notes = refusal(runtime, tensors)
    assert (code, notes) == ("E0520", (f"holds numbers that are not finite: {key}",))


def test_dropout_and_the_start_are_no_reason(runtime, adapters, first):
    config = json.loads((first.folder / CONFIG).read_text())
    config |= {"lora_dropout": 0.5, "init_lora_weights": "gaussian"}
    (first.folder / CONFIG).write_text(json.dumps(config))
    runtime.replace("default", first.folder)
    assert torch.equal(adapters.outputs(runtime.model), first.expected)


def test_files_that_cannot_be_read(runtime, first):
    (first.folder / WEIGHTS).write_bytes(b"no safetensors")
    assert refusal(runtime, first.folder)[0] == "E0501"
    (first.folder / CONFIG).write_text("[]")
    assert refusal(runtime, first.folder)[0] == "E0501"


def test_a_file_of_another_tool_is_fitted_to_the_plan(runtime, adapters, first, tmp_path):
    """As kohya's trainers write it: other names, and an alpha beside each module."""
    tensors = {}
    for key, tensor in load_file(first.folder / WEIGHTS).items():
        path, _, name = key.removeprefix("base_model.model.").rpartition(".lora_")
        stem = "lora_unet_" + path.replace(".", "_")
        tensors[stem + {"A.weight": ".lora_down.weight", "B.weight": ".lora_up.weight"}[name]] = tensor
        tensors[stem + ".alpha"] = torch.tensor(8.0)
    save_file(tensors, tmp_path / "kohya.safetensors")
    change = runtime.load("kohya", tmp_path / "kohya.safetensors")
    assert len(change.loaded) == 28
    runtime.switch("kohya")
    assert torch.equal(adapters.outputs(runtime.model), first.expected)
    save_file({"lora_unet_nothing.alpha": torch.tensor(1.0)}, tmp_path / "other.safetensors")
    assert refusal(runtime, tmp_path / "other.safetensors")[0] == "E0519"


def test_a_configuration_for_several_peft_adapters_is_refused(adapters):
    plan = adapters.plan(
        "lora { r = 4 }", ATTENTION, 'target b { select path("model.layers.*.mlp.*_proj") loha { r = 2 } }'
    )
    model = adapters.adapted(plan).eval()
    runtime = surgery.Runtime(model, plan)
    runtime.model = model
    code, notes = refusal(runtime, runtime.state(), config=LoHaConfig().to_dict())
    assert (code, notes) == ("E0520", ("one configuration cannot be that of the plan's several adapters",))


def test_several_methods_in_one_model_are_swapped_together(adapters, tmp_path):
    more = 'target b { select path("model.layers.*.mlp.*_proj") loha { r = 2 } }'
    saved = adapters.saved("both", adapters.plan("lora { r = 4 rslora = true }", ATTENTION, more))
    model = adapters.adapted(saved.plan).eval()
    runtime = surgery.Runtime(model, saved.plan)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="To copy construct from a tensor")
        for prepared in (False, True):
            if prepared:
                runtime.prepare(8)
            runtime.load(f"both {prepared}", saved.folder)
            runtime.switch(f"both {prepared}")
            torch.testing.assert_close(adapters.outputs(model), saved.expected, **CLOSE)
            runtime.disable()
            assert torch.equal(adapters.outputs(model), adapters.base)
            runtime.enable()
        runtime.save(tmp_path / "again")
    for file in ("a/" + WEIGHTS, "b/" + WEIGHTS):
        assert (tmp_path / "again" / file).read_bytes() == (saved.folder / file).read_bytes()
