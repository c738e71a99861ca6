"""`surgery export` on the folder of a run."""

from pathlib import Path

import peft
import pytest
import torch
from safetensors.torch import load_file, save_file

import surgery
from surgery.capturing.build import build_model, example_inputs
from surgery.cli.export import saved_adapter
from surgery.cli.main import main
from surgery.diagnostics import SurgeryError
from surgery.inject import save_adapters

SPEC = """\
surg 1
param rank: int = 4
model f5_tts.model:DiT {
  dim = 64 depth = 2 heads = 2 ff_mult = 2 text_dim = 32 conv_layers = 1 text_num_embeds = 30
}
inputs { x = f32[2, 12, 100]  cond = f32[2, 12, 100]  text = i64[2, 6] < 30  time = f32[2] }
target attention { select path("transformer_blocks.*.attn.to_q") expect 2 lora { r = rank  alpha = rank } }
target feed_forward { select path("transformer_blocks.*.ff.ff.2") expect 2 lora { r = 2  dropout = 0.1 } }
train { select path("proj_out") expect 1 }
"""


@pytest.fixture
def run(tmp_path, monkeypatch):
    """A spec, a base checkpoint, and a run whose adapter has moved; the current folder is theirs."""
    monkeypatch.chdir(tmp_path)
    Path("dit.surg").write_text(SPEC)
    spec = surgery.load("dit.surg", rank=2)
    torch.manual_seed(3)
    model = build_model(spec)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    save_file(model.state_dict(), "base.safetensors")
    _, inputs = example_inputs(spec)
    plan = surgery.plan(spec, surgery.capture(model, kwargs=inputs))
    adapted = surgery.apply(model, plan).eval()
    for parameter in adapted.parameters():
        if parameter.requires_grad:
            torch.nn.init.normal_(parameter, std=0.1)
    Path("run").mkdir()
    Path("run/plan.json").write_text(plan.model_dump_json())
    for step in (9, 10):
        save_adapters(adapted, plan, Path(f"run/adapter_{step}"))
    with torch.no_grad():
        return spec, inputs, adapted(**inputs)


def base(spec):
    return build_model(spec, weights=Path("base.safetensors")).eval()


def test_the_last_adapter_of_a_run_as_a_peft_folder(run, capsys):
    spec, inputs, expected = run
    assert main(["export", "run", "--to", "peft", "--out", "out", "--weights", "base.safetensors"]) == 0
    printed = capsys.readouterr()
    assert "adapter_10" in printed.err
    assert "adapter_model.safetensors" in printed.out
    model = peft.PeftModel.from_pretrained(base(spec), "out/attention", adapter_name="attention")
    model.load_adapter("out/feed_forward", "feed_forward")
    model.base_model.set_adapter(["attention", "feed_forward"])
    with torch.no_grad():
        assert torch.equal(model.eval()(**inputs), expected)


def test_one_adapter_folder_as_merged_weights(run, capsys):
    spec, inputs, expected = run
    command = ["export", "run/adapter_9", "--to", "merged", "--out", "out", "--weights", "base.safetensors"]
    assert main(command) == 0
    assert "outputs of the example call: relative difference" in capsys.readouterr().out
    model = base(spec)
    model.load_state_dict(load_file("out/model.safetensors"))
    with torch.no_grad():
        assert torch.allclose(model(**inputs), expected, rtol=1e-4, atol=1e-5)


def test_merging_needs_the_base_weights(run, capsys):
    assert main(["export", "run", "--to", "merged", "--out", "out"]) == 1
    assert "error[E0513]" in capsys.readouterr().err
    assert not Path("out").exists()


def test_the_spec_may_lie_elsewhere(run, capsys):
    Path("dit.surg").rename("moved.surg")
    command = ["export", "run", "--out", "out", "--weights", "base.safetensors"]
    assert main(command) == 1
    assert "`--spec F.surg`" in capsys.readouterr().err
    assert main([*command, "--spec", "moved.surg"]) == 0


@pytest.mark.parametrize("folder", [".", "nowhere", "empty_run"])
def test_a_folder_that_is_no_run_is_a_diagnostic(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("empty_run").mkdir()
    Path("empty_run/plan.json").write_text("{}")
    with pytest.raises(SurgeryError) as error:
        saved_adapter(Path(folder))
    assert [d.code for d in error.value.diagnostics] == ["E0501"]
    assert "surgery train" in error.value.diagnostics[0].helps[0]
