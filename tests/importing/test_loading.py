"""Loading into a model: everything or nothing, scales told apart, and what cannot mean the same refused."""

import json
import re
import weakref

import peft
import pytest
import torch
from peft import LoraConfig
from safetensors.torch import load_file, save_file

import surgery
from surgery.capturing.build import build_model
from surgery.cli.main import main
from surgery.diagnostics import SurgeryError
from surgery.importing import read_adapter
from surgery.inject import adapter_state, apply, save_adapters

LORA = "lora { r = 4 alpha = 8 }"


def lora(**settings):
    return LoraConfig(**{"r": 4, "lora_alpha": 8, **settings})


def refused(case, path, **options):
    """The diagnostic of a refusal, which has to leave every tensor of the model as it was."""
    before = {key: tensor.clone() for key, tensor in case.target_tensors().items()}
    with pytest.raises(SurgeryError) as error:
        surgery.load_adapter(case.target, case.plan, path, **options)
    after = case.target_tensors()
    assert all(torch.equal(after[key], before[key]) for key in before)
    [found] = error.value.diagnostics
    return found


@pytest.mark.parametrize("place", ["first", "last"])
@pytest.mark.parametrize("change", ["missing", "more", "other shape", "whole numbers"])
def test_a_file_that_does_not_fit_changes_nothing(change, place, make, tmp_path):
    case = make("llama", lora(), LORA)
    tensors = {key: tensor.detach().clone() for key, tensor in case.source_tensors().items()}
    key = (min if place == "first" else max)(tensors)
    if change == "missing":
        del tensors[key]
    elif change == "more":
        tensors[key.replace("layers.", "layers.9")] = torch.zeros(1)
    elif change == "other shape":
        tensors[key] = torch.zeros(3, 3)
    else:
        tensors[key] = tensors[key].to(torch.int8)
    save_file(tensors, tmp_path / "a.safetensors")
    words = {"missing": "missing in", "more": "not in the plan", "other shape": "other shape", "whole numbers": "float"}
    assert words[change] in refused(case, tmp_path / "a.safetensors", scale="plan").notes[0]


def test_strict_refuses_another_scale(make, tmp_path):
    case = make("llama", lora(lora_alpha=4), LORA)
    case.source.save_pretrained(tmp_path)
    found = refused(case, tmp_path, strict=True)
    assert "`model.layers.0.self_attn.q_proj` by 1 for 2" in found.notes[0]


@pytest.mark.parametrize("scale", [0.25, 3.0])
def test_a_scale_that_is_said_holds(scale, make, tmp_path):
    case = make("llama", lora(lora_alpha=4), LORA)
    save_file({k: t.detach().clone() for k, t in case.source_tensors().items()}, tmp_path / "a.safetensors")
    surgery.load_adapter(case.target, case.plan, tmp_path / "a.safetensors", scale=scale)
    case.assert_equal_updates(factor=scale)


def test_alphas_against_settings_are_refused(make, tmp_path):
    case = make("llama", lora(), LORA)
    case.source.save_pretrained(tmp_path)
    file = tmp_path / "adapter_model.safetensors"
    path = "model.layers.0.self_attn.q_proj"
    save_file(load_file(file) | {f"base_model.model.{path}.alpha": torch.tensor(1.0)}, file)
    found = refused(case, tmp_path)
    assert f"`{path}` is scaled by 2 by adapter_config.json, by 0.25 by its alpha" in found.notes


CHANGED = {
    "rank": ({"r": 3}, "adapter_config.json says r = 3"),
    "method": ({"peft_type": "LOHA"}, "adapter_config.json is of LOHA"),
    "tokens": ({"alora_invocation_tokens": [1, 2]}, "alora_invocation_tokens"),
    "start": ({"init_lora_weights": "pissa"}, "changes the base model"),
    "pattern": ({"alpha_pattern": {"(": 3}}, "alpha_pattern of adapter_config.json cannot be read"),
    "no alpha": ({"lora_alpha": None}, "no rank and alpha"),
}


@pytest.mark.parametrize("change", CHANGED)
def test_settings_that_mean_another_update_are_refused(change, make, tmp_path):
    case = make("llama", lora(), LORA)
    case.source.save_pretrained(tmp_path)
    values, word = CHANGED[change]
    config = tmp_path / "adapter_config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | values))
    found = refused(case, tmp_path)
    assert found.code == "E0519"
    assert any(word in note for note in found.notes)


def test_settings_of_training_only_are_no_difference(make, tmp_path):
    case = make("llama", lora(lora_dropout=0.3, init_lora_weights="gaussian"), LORA)
    case.source.save_pretrained(tmp_path)
    surgery.load_adapter(case.target, case.plan, tmp_path)
    case.assert_equal_updates()


OTHERS = {
    "vera": (peft.VeraConfig(r=6), "vera { r = 6 }", {"projection_prng_key": 7}),
    "ia3": (peft.IA3Config(feedforward_modules=[]), "ia3 { }", {}),
    "oft": (peft.OFTConfig(oft_block_size=4), "oft { oft_block_size = 4 }", {"coft": True}),
    "hra": (peft.HRAConfig(r=4), "hra { r = 4 }", {"apply_GS": True}),
}


@pytest.mark.parametrize("name", OTHERS)
def test_other_methods_by_their_directory(name, make, tmp_path):
    config, method, _ = OTHERS[name]
    case = make("llama", config, method)
    case.source.save_pretrained(tmp_path)
    surgery.load_adapter(case.target, case.plan, tmp_path)
    own = case.target_tensors()
    saved = load_file(tmp_path / "adapter_model.safetensors")
    assert own.keys() == saved.keys()
    assert all(torch.equal(own[key], saved[key]) for key in own)


@pytest.mark.parametrize("name", [name for name in OTHERS if OTHERS[name][2]])
def test_other_methods_with_other_settings_are_refused(name, make, tmp_path):
    config, method, other = OTHERS[name]
    case = make("llama", config, method)
    case.source.save_pretrained(tmp_path)
    file = tmp_path / "adapter_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | other))
    assert next(iter(other)) in refused(case, tmp_path).notes[0]
    file.unlink()
    assert "nothing says the settings" in refused(case, tmp_path).notes[0]


def test_a_file_fills_all_adapters_or_one(make_several, tmp_path):
    plan, source, target = make_several()
    state = adapter_state(source, plan)
    everything = {key: tensor.detach().clone() for tensors in state.values() for key, tensor in tensors.items()}
    save_file(everything, tmp_path / "all.safetensors")
    loaded = surgery.load_adapter(target, plan, tmp_path / "all.safetensors", scale="plan")
    assert set(loaded.loaded) == set(everything)
    assert "base_model.model.lm_head.weight" in everything
    for tensors in adapter_state(target, plan).values():
        assert all(torch.equal(tensor, everything[key]) for key, tensor in tensors.items())
    name = plan.sites[-1].adapter
    one = {key: torch.full_like(tensor, 0.5) for key, tensor in state[name].items()}
    save_file(one, tmp_path / "one.safetensors")
    surgery.load_adapter(target, plan, tmp_path / "one.safetensors", adapter=name, scale="plan")
    assert all(torch.equal(tensor, one[key]) for key, tensor in adapter_state(target, plan)[name].items())
    with pytest.raises(SurgeryError, match=f"it has .*`{name}`"):
        surgery.load_adapter(target, plan, tmp_path / "one.safetensors", adapter="other")


def test_folders_of_several_adapters(make_several, tmp_path):
    plan, source, target = make_several()
    save_adapters(source, plan, tmp_path / "saved")
    loaded = surgery.load_adapter(target, plan, tmp_path / "saved", strict=True)
    wanted, found = adapter_state(source, plan), adapter_state(target, plan)
    assert set(loaded.loaded) == {key for tensors in wanted.values() for key in tensors}
    assert all(torch.equal(found[name][key], tensor) for name in wanted for key, tensor in wanted[name].items())


@pytest.mark.parametrize("same", [True, False])
def test_base_weights_that_peft_saves_with_an_embedding(same, make, tmp_path):
    case = make("llama", lora(), LORA, select="**.{embed_tokens,lm_head}")
    with pytest.warns(UserWarning, match="save_embedding_layers"):
        case.source.save_pretrained(tmp_path)
    key = "base_model.model.model.embed_tokens.base_layer.weight"
    file = tmp_path / "adapter_model.safetensors"
    tensors = load_file(file)
    assert key in tensors
    if same:
        loaded = surgery.load_adapter(case.target, case.plan, tmp_path)
        assert key in loaded.copies
        case.assert_equal_updates()
    else:
        save_file(tensors | {key: tensors[key] + 1}, file)
        assert key in refused(case, tmp_path).notes[0]


def test_loading_into_a_model_on_meta_fills_it(make, tmp_path):
    case = make("llama", lora(), LORA)
    case.source.save_pretrained(tmp_path)
    with torch.device("meta"):
        bare = type(case.target.base_model.model)(case.target.base_model.model.config)
    adapted = apply(bare, case.plan)
    surgery.load_adapter(adapted, case.plan, tmp_path)
    saved = load_file(tmp_path / "adapter_model.safetensors")
    state = adapter_state(adapted, case.plan)["default"]
    assert all(torch.equal(state[key], saved[key]) and state[key].requires_grad for key in saved)


def test_loading_that_fails_half_way_leaves_every_tensor_as_it_was(make, tmp_path, monkeypatch):
    """On meta, where a tensor that somebody refers to weakly cannot be swapped; and interrupted while it copies."""
    case = make("llama", lora(), LORA)
    case.source.save_pretrained(tmp_path)
    with torch.device("meta"):
        bare = type(case.target.base_model.model)(case.target.base_model.model.config)
    adapted = apply(bare, case.plan)
    tensors = list(adapter_state(adapted, case.plan)["default"].values())
    held = weakref.ref(tensors[4])
    with pytest.raises(RuntimeError, match="weakref"):
        surgery.load_adapter(adapted, case.plan, tmp_path)
    assert held() is tensors[4]
    assert all(tensor.is_meta and tensor.requires_grad for tensor in tensors)

    before = {key: tensor.clone() for key, tensor in case.target_tensors().items()}
    copy, calls = torch.Tensor.copy_, []

    def interrupted(self, other):
        calls.append(self)
        if len(calls) == 5:
            copy(self, other)
            raise KeyboardInterrupt
        return copy(self, other)

    monkeypatch.setattr(torch.Tensor, "copy_", interrupted)
    with pytest.raises(KeyboardInterrupt):
        surgery.load_adapter(case.target, case.plan, tmp_path)
    assert len(calls) == 10
    assert all(torch.equal(tensor, before[key]) for key, tensor in case.target_tensors().items())


@pytest.mark.parametrize("how", ["NaN in the file", "a scale that overflows", "too large for half precision"])
def test_weights_that_are_not_finite_are_refused(how, make, tmp_path):
    case = make("llama", lora(), LORA)
    tensors = {key: tensor.detach().clone() for key, tensor in case.source_tensors().items()}
    key = next(key for key in tensors if "lora_B" in key)
    if how == "NaN in the file":
        tensors[key][0, 0] = float("nan")
    elif how == "too large for half precision":
        tensors[key][0, 0] = 1e6
        case.target.half()
    save_file(tensors, tmp_path / "a.safetensors")
    scale = 1e300 if how == "a scale that overflows" else "plan"
    assert f"`base_model.model.{key}`" in refused(case, tmp_path / "a.safetensors", scale=scale).notes[0]


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"lora_alpha": float("nan")}, "alpha = nan"),
        ({"lora_alpha": 10**400}, "alpha = 1000"),
        ({"lora_alpha": None}, "alpha = None"),
        ({"r": 0}, "r = 0"),
        ({"alpha_pattern": {"q_proj": float("inf")}}, "alpha = inf"),
        ({"alpha_pattern": {"a(": 1, "b)": 2}}, "the alpha_pattern of adapter_config.json cannot be read"),
    ],
)
def test_settings_that_are_no_scale(change, word, make, tmp_path):
    case = make("llama", lora(), LORA)
    case.source.save_pretrained(tmp_path)
    file = tmp_path / "adapter_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **change}))
    assert word in refused(case, tmp_path).notes[0]


def test_a_scale_that_is_no_number(make, tmp_path):
    case = make("llama", lora(), LORA)
    case.source.save_pretrained(tmp_path)
    assert "own is no scale" in refused(case, tmp_path, scale="own").notes[0]


@pytest.mark.parametrize(
    ("name", "content", "word"),
    [
        ("adapter.bin", b"\x80\x02", "may run code"),
        ("adapter.ckpt", b"\x80\x02", "may run code"),
        ("missing.safetensors", None, "there is no such file"),
        ("cut.safetensors", b"\x10\x00\x00\x00\x00\x00\x00\x00{}", "cannot read the adapter"),
        ("text.safetensors", b"hello", "cannot read the adapter"),
    ],
)
def test_unreadable_files(name, content, word, tmp_path):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(SurgeryError, match=word) as error:
        read_adapter(tmp_path / name)
    assert error.value.diagnostics[0].code == "E0501"


def test_folders_that_do_not_say_which_file(tmp_path):
    save_file({"a": torch.zeros(1)}, tmp_path / "one.safetensors")
    assert read_adapter(tmp_path).file.name == "one.safetensors"
    save_file({"a": torch.zeros(1)}, tmp_path / "two.safetensors")
    with pytest.raises(SurgeryError, match=r"several files, one\.safetensors, two\.safetensors"):
        read_adapter(tmp_path)
    (tmp_path / "pickled").mkdir()
    (tmp_path / "pickled" / "adapter_model.bin").write_bytes(b"\x80\x02")
    with pytest.raises(SurgeryError, match="may run code"):
        read_adapter(tmp_path / "pickled")


def test_settings_that_are_no_object(tmp_path):
    save_file({"a": torch.zeros(1)}, tmp_path / "adapter_model.safetensors")
    (tmp_path / "adapter_config.json").write_text("[1]")
    with pytest.raises(SurgeryError, match="no JSON object"):
        read_adapter(tmp_path)
    (tmp_path / "adapter_config.json").write_text("[" * 100_000)
    with pytest.raises(SurgeryError, match="no JSON object"):
        read_adapter(tmp_path)
    (tmp_path / "adapter_model.safetensors").rename(tmp_path / "lora_weights.safetensors")
    (tmp_path / "lora_config.json").write_text('{"lora_config": [8, 16]}')
    with pytest.raises(SurgeryError, match="no JSON object"):
        read_adapter(tmp_path)


SPEC = """surg 1
model transformers:LlamaForCausalLM {
  config = transformers:LlamaConfig {
    num_hidden_layers = 2  vocab_size = 50  hidden_size = 24  intermediate_size = 40
    num_attention_heads = 4  num_key_value_heads = 2  tie_word_embeddings = false
  }
}
inputs { input_ids = i64[1, 6] < 50 }
target a { select path("model.layers.*.self_attn.{q_proj,v_proj}") expect 4 lora { r = 4  alpha = 8  dora = DORA } }
"""


@pytest.mark.parametrize("method", ["boft { block_size = 4 }", "shira { r = 1 random_seed = 2 }", "unilora { r = 2 }"])
def test_the_command_takes_methods_that_peft_cannot_inject_without_values(method, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "f.surg").write_text(re.sub(r"lora \{.*?\}", method, SPEC))
    assert main(["capture", "f.surg"]) == 0
    spec = surgery.load("f.surg")
    plan = surgery.plan(spec, surgery.read_graph(spec.graph_path))
    saved = apply(build_model(spec), plan)
    save_adapters(saved, plan, tmp_path / "there")
    assert main(["import", "f.surg", "there", "--out", "out"]) == 0
    there, here = (load_file(tmp_path / name / "adapter_model.safetensors") for name in ("there", "out"))
    assert there.keys() == here.keys()
    assert all(torch.equal(tensor, here[key]) for key, tensor in there.items())


@pytest.mark.parametrize("dora", [False, True])
def test_the_command_writes_what_plain_peft_loads(dora, make, tmp_path, monkeypatch, capsys):
    method = f"lora {{ r = 4 alpha = 8 dora = {str(dora).lower()} }}"
    case = make("llama", lora(lora_alpha=4, use_dora=dora), method)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "f.surg").write_text(SPEC.replace("DORA", str(dora).lower()))
    kohya = {}
    for key, tensor in case.source_tensors().items():
        path, name = key.split(".lora_")
        spelled = {"A.weight": "lora_down.weight", "B.weight": "lora_up.weight"}.get(name, "dora_scale")
        kohya[f"lora_te_{path.replace('.', '_')}.{spelled}"] = tensor.detach().clone()
    save_file(kohya, "kohya.safetensors")
    assert main(["capture", "f.surg"]) == 0
    assert main(["import", "f.surg", "kohya.safetensors", "--out", "out", "--only", "lora_te"]) == 0
    printed = capsys.readouterr().out
    assert "behind `lora_te_`" in printed
    assert "4 modules rescaled to the plan's, by 0.5" in printed
    case.target = peft.PeftModel.from_pretrained(case.target.unload(), tmp_path / "out").eval()
    assert case.target.peft_config["default"].lora_alpha == 8
    case.assert_equal_updates()
    assert main(["import", "f.surg", "kohya.safetensors", "--out", "again", "--strict"]) == 1
    assert not (tmp_path / "again").exists()
    assert main(["import", "f.surg", "kohya.safetensors", "--out", "again", "--scale", "plan", "--strict"]) == 0


def test_what_was_saved_is_read_as_it_is(make, tmp_path):
    case = make("unet", lora(), LORA)
    case.source.save_pretrained(tmp_path / "plain")
    surgery.load_adapter(case.target, case.plan, tmp_path / "plain")
    save_adapters(case.target, case.plan, tmp_path / "own")
    loaded = surgery.load_adapter(case.target, case.plan, tmp_path / "own", strict=True)
    assert loaded.rescaled == {}
    assert str(loaded).startswith(f"loaded    all {len(loaded.loaded)} tensors of {tmp_path / 'own'}")
    case.assert_equal_updates()
