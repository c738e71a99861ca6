"""The PEFT format: written from a live model, read by plain PEFT in a process that cannot import this package."""

import json
import os
import subprocess
import sys
from pathlib import Path

import peft
import pytest
import torch
from peft import get_peft_model_state_dict
from safetensors.torch import load_file

import surgery
from surgery.diagnostics import SurgeryError
from surgery.inject import adapter_state, apply, load_adapters, save_adapters

CASES = ["dit-lora", "dit-loha", "dit-both", "bert-several", "bert-ia3", "bert-pissa", "gpt2", "convolutions"]

# Runs where `import surgery` fails; the base model is rebuilt by the tests' own builder.
READER = """
import sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "surgery":
            raise ImportError("surgery is not importable here")

sys.meta_path.insert(0, Blocked())
import pickle, torch, peft
model, inputs, expected, folders = torch.load(sys.argv[1], weights_only=False)
(first, folder), *others = folders.items()
mixed = len({peft.PeftConfig.from_pretrained(f).peft_type for f in folders.values()}) > 1
loader = peft.PeftMixedModel if mixed else peft.PeftModel
adapted = loader.from_pretrained(model, folder, adapter_name=first)
for name, folder in others:
    adapted.load_adapter(folder, adapter_name=name)
if others:
    adapted.base_model.set_adapter(list(folders))
with torch.no_grad():
    result = adapted.eval()(**inputs)
result = result if isinstance(result, torch.Tensor) else result[0]
assert "surgery" not in sys.modules
print((result - expected).abs().max().item())
"""


def folders(plan, directory):
    names = list(dict.fromkeys(site.adapter for site in plan.sites))
    return {name: str(directory / name if len(names) > 1 else directory) for name in names}


def run_reader(tmp_path, case, directory):
    """The base model travels as an object: its class is the test's own or a library's."""
    file = tmp_path / "case.pt"
    torch.save((case.fresh(), case.inputs, case.outputs(case.adapted), folders(case.plan, directory)), file)
    reader = tmp_path / "reader.py"
    reader.write_text(READER)
    standins = Path(__file__).parents[1] / "standins"
    environment = os.environ | {"PYTHONPATH": f"{standins}{os.pathsep}{tmp_path}", "HF_HUB_OFFLINE": "1"}
    done = subprocess.run([sys.executable, reader, file], capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    return float(done.stdout)


@pytest.mark.heavy
@pytest.mark.parametrize("name", [name for name in CASES if name != "convolutions"])
def test_plain_peft_loads_it_without_this_package_and_computes_the_same(name, make, tmp_path):
    case = make(name)
    exported = surgery.export(case.adapted, case.plan, tmp_path / "out", to="peft")
    assert any(file.endswith("adapter_model.safetensors") for file in exported.files)
    assert run_reader(tmp_path, case, tmp_path / "out") == 0.0


@pytest.mark.parametrize("name", CASES)
def test_it_holds_what_peft_itself_would_save(name, make, tmp_path):
    case = make(name)
    surgery.export(case.adapted, case.plan, tmp_path / "out", to="peft")
    for adapter, folder in folders(case.plan, tmp_path / "out").items():
        written = load_file(f"{folder}/adapter_model.safetensors")
        if name == "bert-several" and adapter != "attention":
            # PEFT drops all keys that hold the name of another adapter: here the module `attention`.
            assert written
            continue
        expected = get_peft_model_state_dict(case.adapted, adapter_name=adapter, save_embedding_layers=False)
        assert written.keys() == expected.keys()
        assert all(torch.equal(written[key], expected[key]) for key in expected)
        config = peft.PeftConfig.from_pretrained(folder)
        live = case.adapted.peft_config[adapter]
        ignored = {"inference_mode", "auto_mapping", "task_type"}
        assert {k: v for k, v in config.to_dict().items() if k not in ignored} == {
            k: v for k, v in live.to_dict().items() if k not in ignored
        }
        text = json.loads(Path(folder, "adapter_config.json").read_text())
        assert text["inference_mode"] is True
        assert text["base_model_name_or_path"] in (None, "")


@pytest.mark.parametrize("name", CASES)
def test_a_saved_adapter_loads_back_to_the_bit(name, make, tmp_path):
    case = make(name)
    save_adapters(case.adapted, case.plan, tmp_path / "out")
    again = apply(case.fresh(), case.plan)
    load_adapters(again, case.plan, tmp_path / "out")
    assert torch.equal(case.outputs(again), case.outputs(case.adapted))
    for adapter, tensors in adapter_state(case.adapted, case.plan).items():
        other = adapter_state(again, case.plan)[adapter]
        assert all(torch.equal(tensors[key], other[key]) for key in tensors)


def test_an_adapter_of_another_plan_is_refused_with_the_difference(make, tmp_path):
    case = make("dit-lora")
    save_adapters(case.adapted, case.plan, tmp_path / "out")
    other = make("dit-lora", 'target a { select path("transformer_blocks.*.attn.to_{q,v}") lora { r = 8 } }')
    before = {key: tensor.clone() for key, tensor in adapter_state(other.adapted, other.plan)["default"].items()}
    with pytest.raises(SurgeryError) as error:
        load_adapters(other.adapted, other.plan, tmp_path / "out")
    [found] = error.value.diagnostics
    assert found.code == "E0519"
    missing = "base_model.model.transformer_blocks.[0:2].attn.to_v.lora_{A,B}.weight"
    assert any(note.startswith(f"4 tensors missing in the file: {missing.split('{')[0]}") for note in found.notes)
    after = adapter_state(other.adapted, other.plan)["default"]
    assert all(torch.equal(after[key], before[key]) for key in before)


@pytest.mark.parametrize("damage", ["missing", "truncated"])
def test_an_unreadable_adapter_is_a_diagnostic(damage, make, tmp_path):
    case = make("dit-lora")
    save_adapters(case.adapted, case.plan, tmp_path / "out")
    file = tmp_path / "out" / "adapter_model.safetensors"
    file.write_bytes(file.read_bytes()[:100]) if damage == "truncated" else file.unlink()
    with pytest.raises(SurgeryError) as error:
        load_adapters(case.adapted, case.plan, tmp_path / "out")
    assert [d.code for d in error.value.diagnostics] == ["E0501"]


def test_an_export_is_replaced_as_a_whole(make, tmp_path):
    case = make("bert-several")
    surgery.export(case.adapted, case.plan, tmp_path / "out")
    first = sorted(p.relative_to(tmp_path) for p in tmp_path.rglob("*"))
    surgery.export(case.adapted, case.plan, tmp_path / "out")
    assert sorted(p.relative_to(tmp_path) for p in tmp_path.rglob("*")) == first


@pytest.mark.parametrize("kind", ["a file", "other files", "a run"])
def test_what_is_no_export_is_not_replaced(kind, make, tmp_path):
    case, out = make("dit-lora"), tmp_path / "out"
    if kind == "a file":
        out.write_text("mine")
    elif kind == "other files":
        out.mkdir()
        (out / "notes.txt").write_text("mine")
    else:
        save_adapters(case.adapted, case.plan, out / "adapter_10")
        (out / "plan.json").write_text("{}")
    before = sorted(p.relative_to(tmp_path) for p in tmp_path.rglob("*"))
    with pytest.raises(SurgeryError) as error:
        surgery.export(case.adapted, case.plan, out)
    assert [d.code for d in error.value.diagnostics] == ["E0514"]
    assert sorted(p.relative_to(tmp_path) for p in tmp_path.rglob("*")) == before


def test_a_failure_while_writing_keeps_the_old_export(make, tmp_path, monkeypatch):
    case, out = make("bert-several"), tmp_path / "out"
    surgery.export(case.adapted, case.plan, out)
    before = {p: p.read_bytes() for p in out.rglob("*") if p.is_file()}
    monkeypatch.setattr("surgery.inject.directory.config_json", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        surgery.export(case.adapted, case.plan, out)
    assert {p: p.read_bytes() for p in out.rglob("*") if p.is_file()} == before
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith(".")] == []


def test_an_unknown_format_names_the_known_ones(make, tmp_path):
    case = make("dit-lora")
    with pytest.raises(SurgeryError, match="there is no export format `gguf`") as error:
        surgery.export(case.adapted, case.plan, tmp_path / "out", to="gguf")
    assert "`peft`" in str(error.value)
    assert not (tmp_path / "out").exists()
