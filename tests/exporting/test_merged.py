"""The merged format: the base model's own keys and dtypes, and the adapted model's outputs."""

import resource

import pytest
import torch
from safetensors.torch import load_file

import surgery
from surgery.diagnostics import SurgeryError

MERGEABLE = [
    *("dit-lora", "dit-loha", "dit-both", "bert-several", "bert-ia3", "bert-pissa", "bert-oft"),
    *("gpt2", "convolutions"),
]


@pytest.mark.parametrize("name", MERGEABLE)
def test_the_file_makes_the_base_model_compute_what_the_adapted_one_does(name, make, tmp_path):
    case = make(name)
    expected, before = case.outputs(case.adapted), state(case.adapted)
    exported = surgery.export(case.adapted, case.plan, tmp_path / "out", to="merged", inputs=case.inputs)
    assert state(case.adapted) == before
    model = case.fresh()
    own = model.state_dict()
    written = load_file(tmp_path / "out" / "model.safetensors")
    assert {k: (v.dtype, v.shape) for k, v in written.items()} == {k: (v.dtype, v.shape) for k, v in own.items()}
    model.load_state_dict(written)
    assert torch.allclose(case.outputs(model), expected, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(case.outputs(case.fresh()), expected, rtol=1e-4, atol=1e-5)
    assert [proof.difference <= proof.tolerance for proof in exported.proofs] == [True, True]
    assert all(proof.difference < 1e-5 for proof in exported.proofs)


@pytest.mark.parametrize("name", MERGEABLE)
def test_only_adapted_and_trained_tensors_change(name, make, tmp_path):
    case = make(name)
    surgery.export(case.adapted, case.plan, tmp_path / "out", to="merged")
    written, own = load_file(tmp_path / "out" / "model.safetensors"), case.fresh().state_dict()
    changed = {key for key in own if not torch.equal(written[key], own[key])}
    trained = tuple(path + "." for path in case.plan.trained)
    names = ["weight", "bias"] if name == "bert-ia3" else ["weight"]
    assert {key for key in changed if not key.startswith(trained or "-")} == {
        f"{s.path}.{parameter}" for s in case.plan.sites for parameter in names
    }


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
@pytest.mark.parametrize("name", ["dit-both", "gpt2"])
def test_weights_are_merged_in_float32_and_rounded_once(name, dtype, make, tmp_path):
    case = make(name, dtype=dtype)
    surgery.export(case.adapted, case.plan, tmp_path / "out", to="merged", inputs=case.inputs)
    written = load_file(tmp_path / "out" / "model.safetensors")
    for site in case.plan.sites:
        layer = case.adapted.base_model.model.get_submodule(site.path)
        if site.settings.get("dora"):
            continue
        wide = torch.float64 if dtype is torch.float64 else torch.float32
        delta = layer.get_delta_weight(site.adapter).detach().to(wide)
        expected = (layer.base_layer.weight.detach().to(wide) + delta).to(dtype)
        assert torch.equal(written[f"{site.path}.weight"], expected)


def test_a_tied_weight_cannot_be_merged_on_one_side(make, tmp_path):
    case = make("dit-lora")
    attention = case.adapted.base_model.model.transformer_blocks[0].attn
    attention.to_v.weight = attention.to_q.base_layer.weight
    with pytest.raises(SurgeryError) as error:
        surgery.export(case.adapted, case.plan, tmp_path / "out", to="merged")
    [found] = error.value.diagnostics
    assert found.code == "E0513"
    assert found.message.startswith(
        "`transformer_blocks.0.attn.to_q.weight` is tied to `transformer_blocks.0.attn.to_v.weight`"
    )
    assert not (tmp_path / "out").exists()


@pytest.mark.filterwarnings("ignore:LoRA adapter added to ConvNd layer with groups")
def test_a_grouped_convolution_cannot_be_merged(make, tmp_path):
    case = make("convolutions", 'target a { select path("grouped") lora { r = 3 } }')
    with pytest.raises(SurgeryError) as error:
        surgery.export(case.adapted, case.plan, tmp_path / "out", to="merged")
    [found] = error.value.diagnostics
    assert found.code == "E0513"
    assert "`grouped` cannot be merged" in found.message
    assert list(tmp_path.iterdir()) == [tmp_path / "case.surg"]


def test_a_padding_that_the_adapter_does_not_have_is_caught_by_the_proof(make, tmp_path):
    case = make("convolutions", 'target a { select path("one") lora { r = 3 } }')
    case.adapted.base_model.model.one.base_layer.padding_mode = "circular"
    with pytest.raises(SurgeryError, match="the merged model is not the adapted one"):
        surgery.export(case.adapted, case.plan, tmp_path / "out", to="merged")


def test_a_model_that_is_not_the_plans_is_not_exported(make, tmp_path):
    case = make("dit-lora")
    case.adapted.base_model.model.proj_out.weight.requires_grad_(True)
    with pytest.raises(SurgeryError) as error:
        surgery.export(case.adapted, case.plan, tmp_path / "out", to="merged")
    assert [d.code for d in error.value.diagnostics] == ["E0509"]


def state(model):
    return (
        [(name, p.requires_grad, p.data_ptr(), p.sum().item()) for name, p in model.named_parameters()],
        [(name, m.training, getattr(m, "_disable_adapters", None)) for name, m in model.named_modules()],
        torch.random.get_rng_state().sum().item(),
    )


def test_a_full_disk_leaves_nothing(make, tmp_path):
    case = make("gpt2")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2048, limits[1]))  # then writes fail with EFBIG
    try:
        with pytest.raises(SurgeryError) as caught:
            surgery.export(case.adapted, case.plan, tmp_path / "out", to="merged")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert caught.value.diagnostics[0].code == "E0514"
    assert "File too large" in caught.value.diagnostics[0].message
    assert [path.name for path in tmp_path.iterdir()] == ["case.surg"]
