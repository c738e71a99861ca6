"""Models and example calls from specs."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

import surgery
from surgery.capturing.build import build_model, example_inputs
from surgery.capturing.from_spec import capture_spec
from surgery.diagnostics import SurgeryError
from surgery.language import LoadedSpec


def spec(tmp_path: Path, text: str) -> LoadedSpec:
    path = tmp_path / "a.surg"
    path.write_text("surg 1\n" + text, encoding="utf-8")
    return surgery.load(path)


BERT = """
param layers: int = 2
model transformers:BertModel {
  config = transformers:BertConfig {
    vocab_size = 50  hidden_size = 32  num_hidden_layers = layers  num_attention_heads = 2  intermediate_size = 64
  }
  add_pooling_layer = false
}
inputs { input_ids = i64[2, 6] < 50 }
"""


def test_a_model_from_nested_objects_and_params(tmp_path: Path) -> None:
    model = build_model(spec(tmp_path, BERT))
    assert len(model.encoder.layer) == 2
    assert model.pooler is None


def test_inputs_are_drawn_from_a_seed_and_within_bounds(tmp_path: Path) -> None:
    text = "inputs { a = f32[2, 3]  b = i64[100] < 7  c = bf16[4]  d = bool[2]  e = i32[50] }"
    before = torch.random.get_rng_state()
    (args, kwargs), (_, again) = (example_inputs(spec(tmp_path, text)) for _ in range(2))
    assert args == ()
    assert kwargs["a"].shape == (2, 3)
    assert 0 <= kwargs["b"].min() <= kwargs["b"].max() == 6
    assert kwargs["c"].dtype == torch.bfloat16
    assert kwargs["d"].all()
    assert set(kwargs["e"].tolist()) == {0, 1}
    assert all(torch.equal(kwargs[name], again[name]) for name in kwargs)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_functions_of_a_project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_models.py").write_text(
        "import torch\ndef build(width):\n    return torch.nn.Linear(width, width)\n"
        "def example():\n    return torch.ones(1, 4)\n",
        encoding="utf-8",
    )
    monkeypatch.syspath_prepend(tmp_path)
    graph = capture_spec(spec(tmp_path, "model my_models:build { width = 4 }\ninputs my_models:example"))
    assert graph[""].kind == "Linear"
    assert graph[""].init["weight"].place == "my_models.py:3"


def test_capture_needs_no_memory(tmp_path: Path) -> None:
    """A Linear of 4 TB."""
    text = "model torch.nn:Linear { in_features = 1000000  out_features = 1000000 }\ninputs { input = f32[1, 1000000] }"
    assert capture_spec(spec(tmp_path, text)).parameters == 10**12 + 10**6


def test_what_fake_tensors_cannot_do_is_run_for_real(tmp_path: Path) -> None:
    text = """
    model transformers:MixtralForCausalLM { config = transformers:MixtralConfig {
      vocab_size = 50  hidden_size = 32  intermediate_size = 64  num_hidden_layers = 1  num_attention_heads = 2
      num_key_value_heads = 2  num_local_experts = 4
    } }
    inputs { input_ids = i64[2, 6] < 50 }
    """
    graph = capture_spec(spec(tmp_path, text))
    assert "router" in graph["model.layers.0.mlp.gate"].roles
    assert graph["model.layers.0.self_attn.q_proj"].init["weight"].value == "random"


def test_the_header_names_the_model(tmp_path: Path) -> None:
    header = capture_spec(spec(tmp_path, BERT)).header
    assert header.model == "transformers:BertModel"
    assert "num_hidden_layers = 2" in header.settings
    assert header.inputs == "inputs { input_ids = i64[2, 6] < 50 }"
    assert {"torch", "transformers"} <= header.versions.keys()


def codes(error: SurgeryError) -> list[str]:
    return [found.code for found in error.diagnostics]


@pytest.mark.parametrize(
    ("text", "code", "says"),
    [
        ("inputs { x = f32[1] }", "E0107", "no `model`"),
        ("model torch.nn:ReLU {}", "E0107", "no `inputs`"),
        ("model no_such_package:M {}\ninputs { x = f32[1] }", "E0507", "no module `no_such_package`"),
        ("model torch.nn.no_such:M {}\ninputs { x = f32[1] }", "E0507", "no module `torch.nn.no_such`"),
        ("model torch.nn:Relu {}\ninputs { x = f32[1] }", "E0507", "did you mean `ReLU`"),
        ("model torch.nn:ReLU { inplac = true }\ninputs { x = f32[1] }", "E0106", "did you mean `inplace`"),
        ("model torch.nn:Linear { in_features = 2 }\ninputs { x = f32[1] }", "E0107", "needs `out_features`"),
        ("model torch.nn:Linear { in_features = -2  out_features = 2 }\ninputs { x = f32[1] }", "E0508", "negative"),
        ("model builtins:dict {}\ninputs { x = f32[1] }", "E0508", "not a torch.nn.Module"),
        ("model torch.nn:ReLU {}\ninputs { y = f32[1] }", "E0508", "takes no `y`"),
    ],
)
def test_what_cannot_be_built_is_said(tmp_path: Path, text: str, code: str, says: str) -> None:
    with pytest.raises(SurgeryError) as raised:
        capture_spec(spec(tmp_path, text))
    assert codes(raised.value) == [code]
    assert says in str(raised.value)
    assert raised.value.diagnostics[0].helps
    assert raised.value.diagnostics[0].span or raised.value.diagnostics[0].place


def test_weights_are_loaded_exactly_or_not_at_all(tmp_path: Path) -> None:
    loaded = spec(tmp_path, BERT)
    source = build_model(loaded)
    state = {name: tensor.clone() for name, tensor in source.state_dict().items()}
    save_file(state, tmp_path / "full.safetensors")
    model = build_model(loaded, weights=tmp_path / "full.safetensors")
    assert all(torch.equal(tensor, state[name]) for name, tensor in model.state_dict().items())

    first, *rest = state
    save_file({name: state[name] for name in rest}, tmp_path / "less.safetensors")
    with pytest.raises(SurgeryError, match=f"1 missing: {first}") as raised:
        build_model(loaded, weights=tmp_path / "less.safetensors")
    assert codes(raised.value) == ["E0517"]


def test_a_tied_weight_may_stand_once(tmp_path: Path) -> None:
    loaded = spec(
        tmp_path,
        """
        model transformers:GPT2LMHeadModel { config = transformers:GPT2Config {
          vocab_size = 50  n_embd = 32  n_layer = 1  n_head = 2  bos_token_id = 0  eos_token_id = 0
        } }
        """,
    )
    state = {k: v.clone() for k, v in build_model(loaded).state_dict().items() if k != "lm_head.weight"}
    save_file(state, tmp_path / "tied.safetensors")
    model = build_model(loaded, weights=tmp_path / "tied.safetensors")
    assert torch.equal(model.lm_head.weight, state["transformer.wte.weight"])


def test_weights_that_are_no_safetensors(tmp_path: Path) -> None:
    torch.save({"a": torch.ones(1)}, tmp_path / "pickle.pt")
    with pytest.raises(SurgeryError) as raised:
        build_model(spec(tmp_path, BERT), weights=tmp_path / "pickle.pt")
    assert codes(raised.value) == ["E0501"]
