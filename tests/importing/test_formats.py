"""Files of every format, written by the packages themselves or by code that shares nothing with the importer."""

import json

import pytest
import torch
from diffusers import FluxPipeline
from diffusers.utils.state_dict_utils import convert_state_dict_to_diffusers, convert_state_dict_to_kohya
from peft import LoHaConfig, LoKrConfig, LoraConfig
from safetensors.torch import save_file
from voxcpm.modules.layers.lora import LoRALinear, apply_lora_to_named_linear_modules

import surgery

LORA = "lora { r = 4 alpha = 8 }"


def lora(**settings):
    return LoraConfig(**{"r": 4, "lora_alpha": 8, **settings})


def write(folder, tensors, metadata=None, name="adapter.safetensors"):
    save_file({k: t.detach().clone().contiguous() for k, t in tensors.items()}, folder / name, metadata=metadata)
    return folder / name


def factors(tensors, down, up):
    """The keys with other names for the factors."""
    return {k.replace("lora_A.weight", down).replace("lora_B.weight", up): t for k, t in tensors.items()}


def as_kohya(tensors, prefix, alpha=None):
    """Dots of the module's path to underscores, as kohya's and LyCORIS' networks name their modules."""
    found = {}
    for key, tensor in tensors.items():
        path, name = key.split(".lora_")
        module = prefix + path.replace(".", "_")
        kohya = {"A.weight": "lora_down.weight", "B.weight": "lora_up.weight", "magnitude_vector": "dora_scale"}[name]
        found[f"{module}.{kohya}"] = tensor
        if alpha is not None:
            found[f"{module}.alpha"] = torch.tensor(float(alpha))
    return found


@pytest.mark.parametrize("settings", [{}, {"use_rslora": True}, {"r": 4, "lora_alpha": 3}], ids=str)
@pytest.mark.parametrize("model", ["flux", "unet", "llama"])
def test_a_directory_of_plain_peft(model, settings, make, tmp_path):
    case = make(model, lora(**settings), LORA)
    case.source.save_pretrained(tmp_path / "peft")
    loaded = surgery.load_adapter(case.target, case.plan, tmp_path / "peft")
    case.assert_equal_updates()
    assert set(loaded.loaded) == set(case.target_tensors())
    assert loaded.not_loaded == ()
    assert loaded.prefix == "base_model.model."
    scale = case.source.peft_config["default"].lora_alpha / (2 if settings.get("use_rslora") else 4)
    assert set(loaded.rescaled.values()) == ({scale / 2} if scale != 2 else set())


def test_ranks_and_alphas_that_differ_by_module_come_from_the_patterns(make, tmp_path):
    config = lora(alpha_pattern={"layers.0.self_attn.q_proj": 32, "^model.layers.1.*v_proj": 2})
    case = make("llama", config, LORA)
    case.source.save_pretrained(tmp_path)
    loaded = surgery.load_adapter(case.target, case.plan, tmp_path)
    case.assert_equal_updates()
    assert loaded.rescaled == {"model.layers.0.self_attn.q_proj": 4.0, "model.layers.1.self_attn.v_proj": 0.25}


def test_the_raw_state_of_a_compiled_model(make, tmp_path):
    case = make("llama", lora(), LORA)
    wrapped = torch.nn.Sequential()  # as a trainer's own wrapper
    wrapped.add_module("module", torch.compile(case.source, backend="eager"))
    raw = {key: tensor for key, tensor in wrapped.state_dict().items() if "lora_" in key}
    assert all("_orig_mod" in key and ".default." in key for key in raw)
    surgery.load_adapter(case.target, case.plan, write(tmp_path, raw), scale="plan")
    case.assert_equal_updates()


def test_the_raw_state_of_a_model_whose_blocks_are_compiled(make, tmp_path):
    case = make("llama", lora(), LORA)
    layers = case.source.base_model.model.model.layers
    plain = list(layers)
    for at, layer in enumerate(plain):
        layers[at] = torch.compile(layer, backend="eager")
    raw = {key: tensor for key, tensor in case.source.state_dict().items() if "lora_" in key}
    assert all(".layers." in key.partition("._orig_mod.")[0] + "." for key in raw)
    for at, layer in enumerate(plain):
        layers[at] = layer
    surgery.load_adapter(case.target, case.plan, write(tmp_path, raw), scale="plan")
    case.assert_equal_updates()


def test_diffusers_file_of_a_pipeline_with_its_settings(make, tmp_path):
    case = make("flux", lora(lora_alpha=5, alpha_pattern={"transformer_blocks.0.attn.to_q": 2}), LORA)
    FluxPipeline.save_lora_weights(
        tmp_path,
        transformer_lora_layers=case.source_tensors(),
        transformer_lora_adapter_metadata=case.source.peft_config["default"].to_dict() | {"target_modules": case.paths},
    )
    loaded = surgery.load_adapter(case.target, case.plan, tmp_path)
    case.assert_equal_updates()
    assert loaded.prefix == "transformer."
    assert loaded.rescaled["transformer_blocks.0.attn.to_q"] == 0.25
    assert loaded.rescaled["transformer_blocks.1.attn.to_q"] == 0.625


def test_diffusers_file_of_a_model(make, tmp_path):
    case = make("flux", lora(lora_alpha=5), LORA)
    model = case.source.base_model.model
    model.peft_config = case.source.peft_config
    model._hf_peft_config_loaded = True
    model.save_lora_adapter(tmp_path)
    surgery.load_adapter(case.target, case.plan, tmp_path)
    case.assert_equal_updates()


def test_diffusers_file_without_settings_is_scaled_by_one(make, tmp_path):
    case = make("flux", lora(lora_alpha=4), LORA)
    FluxPipeline.save_lora_weights(tmp_path, transformer_lora_layers=case.source_tensors())
    loaded = surgery.load_adapter(case.target, case.plan, tmp_path)
    case.assert_equal_updates()
    assert set(loaded.rescaled.values()) == {0.5}
    assert "1" in loaded.scale


@pytest.mark.parametrize("wanted", ["down", "linear_layer"])
def test_older_spellings_of_diffusers(wanted, make, tmp_path):
    name = "flux" if wanted == "down" else "llama"
    case = make(name, lora(lora_alpha=4), LORA)
    tensors = convert_state_dict_to_diffusers(case.source_tensors())
    assert any(wanted in key for key in tensors)
    surgery.load_adapter(case.target, case.plan, write(tmp_path, {f"unet.{key}": t for key, t in tensors.items()}))
    case.assert_equal_updates()


def test_attention_processors_of_diffusers(make, tmp_path):
    case = make("unet", lora(lora_alpha=4), LORA, select="**.attn2.{to_q,to_out.0}")
    old = factors(case.source_tensors(), "lora.down.weight", "lora.up.weight")
    old = {
        f"unet.{k}".replace(".to_q.", ".processor.to_q_").replace(".to_out.0.", ".processor.to_out_"): t
        for k, t in old.items()
    }
    surgery.load_adapter(case.target, case.plan, write(tmp_path, old))
    case.assert_equal_updates()


def test_kohya_as_diffusers_converts_it(make, tmp_path):
    case = make("unet", lora(lora_alpha=4), LORA, select="**.attn2.{to_q,to_out.0}")
    kohya = convert_state_dict_to_kohya({f"unet.{key}": tensor for key, tensor in case.source_tensors().items()})
    loaded = surgery.load_adapter(case.target, case.plan, write(tmp_path, kohya))
    case.assert_equal_updates()
    assert loaded.prefix == "lora_unet_"


@pytest.mark.parametrize("prefix", ["lora_unet_", "lora_te1_", "lycoris_"])
def test_kohya_with_convolutions_and_alphas_in_half(prefix, make, tmp_path):
    case = make("unet", lora(lora_alpha=3), LORA)
    kohya = as_kohya(case.source_tensors(), prefix, alpha=3)
    kohya = {key: tensor.half() if key.endswith(".alpha") else tensor for key, tensor in kohya.items()}
    loaded = surgery.load_adapter(case.target, case.plan, write(tmp_path, kohya))
    case.assert_equal_updates()
    assert set(loaded.rescaled.values()) == {0.375}
    assert loaded.prefix == prefix


def test_kohya_without_alphas_is_scaled_by_one(make, tmp_path):
    case = make("flux", lora(lora_alpha=4), LORA)
    surgery.load_adapter(case.target, case.plan, write(tmp_path, as_kohya(case.source_tensors(), "lora_unet_")))
    case.assert_equal_updates()


@pytest.mark.parametrize("alpha", [None, 6])
def test_comfyui(alpha, make, tmp_path):
    case = make("flux", lora(lora_alpha=alpha or 4), LORA)
    tensors = {f"diffusion_model.{key}": tensor for key, tensor in case.source_tensors().items()}
    if alpha:
        tensors |= {f"diffusion_model.{path}.alpha": torch.tensor(alpha, dtype=torch.bfloat16) for path in case.paths}
    surgery.load_adapter(case.target, case.plan, write(tmp_path, tensors))
    case.assert_equal_updates()


def test_voxcpm_with_its_own_layers(make, tmp_path):
    case = make("llama", lora(lora_alpha=6), LORA)
    model = case.source.unload()  # the base again; VoxCPM puts its own layers on it
    apply_lora_to_named_linear_modules(model, target_submodule_names=["q_proj", "v_proj"], r=4, alpha=6, dropout=0.0)
    with torch.no_grad():
        for layer in model.modules():
            if isinstance(layer, LoRALinear):
                layer.lora_B.normal_(std=0.1)
    write(tmp_path, {k: t for k, t in model.state_dict().items() if "lora_" in k}, name="lora_weights.safetensors")
    settings = {"base_model": "x", "lora_config": {"enable_lm": True, "r": 4, "alpha": 6, "dropout": 0.0}}
    (tmp_path / "lora_config.json").write_text(json.dumps(settings))
    loaded = surgery.load_adapter(case.target, case.plan, tmp_path)
    assert loaded.prefix == ""
    assert loaded.scale == "lora_config.json"
    ids = torch.arange(6)[None]
    with torch.no_grad():
        torch.testing.assert_close(case.target(input_ids=ids).logits, model(input_ids=ids).logits, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kohya", [False, True])
def test_dora(kohya, make, tmp_path):
    case = make("unet", lora(use_dora=True, lora_alpha=2), "lora { r = 4 alpha = 8 dora = true }")
    if kohya:
        tensors = as_kohya(case.source_tensors(), "lora_unet_", alpha=2)
        # LyCORIS keeps one magnitude per output in a column (`lycoris/modules/locon.py`), PEFT in a row.
        columns = {k: t.reshape(-1, *[1] * max(1, t.dim() - 1)) for k, t in tensors.items() if "dora_scale" in k}
        file = write(tmp_path, tensors | columns)
    else:
        case.source.save_pretrained(tmp_path / "peft")
        file = tmp_path / "peft"
    surgery.load_adapter(case.target, case.plan, file)
    case.assert_equal_updates()
    magnitudes = {k: t for k, t in case.target_tensors().items() if "magnitude" in k}
    assert len(magnitudes) == len(case.paths)
    assert all(
        torch.equal(t, case.source_tensors()[k.removeprefix("base_model.model.")]) for k, t in magnitudes.items()
    )


@pytest.mark.parametrize("lycoris", [False, True])
def test_loha(lycoris, make, tmp_path):
    case = make("unet", LoHaConfig(r=3, alpha=4), "loha { r = 3 alpha = 3 }")
    if lycoris:
        tensors = {}
        for key, tensor in case.source_tensors().items():
            path, _, name = key.rpartition(".")
            module = "lora_unet_" + path.replace(".", "_")
            tensors |= {f"{module}.{name}": tensor, f"{module}.alpha": torch.tensor(4.0)}
        file = write(tmp_path, tensors)
    else:
        case.source.save_pretrained(tmp_path / "peft")
        file = tmp_path / "peft"
    loaded = surgery.load_adapter(case.target, case.plan, file)
    case.assert_equal_updates()
    assert set(loaded.rescaled.values()) == {4 / 3}


@pytest.mark.parametrize("lycoris", [False, True])
@pytest.mark.parametrize(("rank", "full"), [(2, False), (4, True)])
def test_lokr(rank, full, lycoris, make, tmp_path):
    case = make("flux", LoKrConfig(r=rank, alpha=6), f"lokr {{ r = {rank} alpha = 1 }}")
    assert full != any("lokr_w2_a" in key for key in case.source_tensors())
    if lycoris:
        tensors = {}
        for key, tensor in case.source_tensors().items():
            path, _, name = key.rpartition(".")
            module = "lycoris_" + path.replace(".", "_")
            tensors |= {f"{module}.{name}": tensor, f"{module}.alpha": torch.tensor(6.0)}
        file = write(tmp_path, tensors)
    else:
        case.source.save_pretrained(tmp_path / "peft")
        file = tmp_path / "peft"
    surgery.load_adapter(case.target, case.plan, file)
    if full and lycoris:
        # Without a factor of low rank LyCORIS takes alpha for the rank (`lycoris/modules/lokr.py`), ComfyUI no alpha.
        case.assert_equal_updates(factor=rank / 6)
    else:
        case.assert_equal_updates()


def test_factors_of_linear_layers_stored_as_convolutions(make, tmp_path):
    case = make("flux", lora(), LORA)
    tensors = {key: tensor[:, :, None, None] for key, tensor in case.source_tensors().items()}
    surgery.load_adapter(case.target, case.plan, write(tmp_path, tensors), scale="plan")
    case.assert_equal_updates()


def test_transposed_factors(make, tmp_path):
    case = make("flux", lora(), LORA)
    tensors = {key: tensor.T for key, tensor in case.source_tensors().items()}
    surgery.load_adapter(case.target, case.plan, write(tmp_path, tensors), scale="plan")
    case.assert_equal_updates()


def test_half_precision_is_widened_and_said(make, tmp_path):
    case = make("llama", lora(), LORA)
    for tensor in case.source_tensors().values():
        tensor.copy_(tensor.bfloat16())
    tensors = {key: tensor.bfloat16() for key, tensor in case.source_tensors().items()}
    loaded = surgery.load_adapter(case.target, case.plan, write(tmp_path, tensors), scale="plan")
    case.assert_equal_updates()
    assert loaded.converted == {("bfloat16", "float32"): 8}
    assert "converted 8 from bfloat16 to float32" in str(loaded)
