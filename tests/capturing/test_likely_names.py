"""The `weights` statement that a refusal suggests makes the checkpoint fit: real wrappers, and any prefix."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import Tensor, nn

from surgery.capturing.weights import load_weights
from surgery.diagnostics import Diagnostic, Source, SurgeryError
from surgery.language import load_source, tree


def statement(text: str) -> tree.Weights | None:
    return load_source(Source("a.surg", f"surg 1\n{text}"), Path("a.surg"), {}).tree.weights


def save(state: dict[str, Tensor], path: Path) -> Path:
    save_file({key: value.detach().clone() for key, value in state.items()}, path)
    return Path(path)


def refusal(call: Callable[[], object]) -> Diagnostic:
    """The one diagnostic of a call that is refused."""
    with pytest.raises(SurgeryError) as raised:
        call()
    (found,) = raised.value.diagnostics
    assert found.helps
    return found


def suggested(found: Diagnostic) -> str:
    """The statement that the help promises to make all keys fit."""
    (text,) = [match for help in found.helps for match in re.findall(r"`(weights \{.*\})`; then all", help)]
    return str(text)


def equal(one: nn.Module, other: nn.Module) -> bool:
    mine, theirs = one.state_dict(), other.state_dict()
    return mine.keys() == theirs.keys() and all(torch.equal(mine[key], theirs[key]) for key in mine)


def bert(layers: int = 2) -> nn.Module:
    from transformers import BertConfig, BertForMaskedLM

    config = {"hidden_size": 32, "num_attention_heads": 2, "intermediate_size": 48, "vocab_size": 60}
    return BertForMaskedLM(BertConfig(num_hidden_layers=layers, **config))


@pytest.mark.parametrize(
    ("whole", "part", "mapping"),
    [
        pytest.param(nn.DataParallel, lambda m: m, '"module.**" -> "**"', id="DataParallel"),
        pytest.param(torch.compile, lambda m: m, '"_orig_mod.**" -> "**"', id="compiled"),
        pytest.param(
            lambda m: nn.DataParallel(torch.compile(m)), lambda m: m, '"module._orig_mod.**" -> "**"', id="both"
        ),
        pytest.param(lambda m: m, lambda m: m.bert, '"bert.**" -> "**"  ignore "cls.**"', id="base-model"),
        pytest.param(lambda m: m.bert, lambda m: nn.ModuleDict({"bert": m.bert}), '"**" -> "bert.**"', id="wrapped"),
        pytest.param(
            lambda m: m.bert,
            lambda m: nn.ModuleDict({"table": m.bert.embeddings, "encoder": m.bert.encoder}),
            '"embeddings.**" -> "table.**"',
            id="sub-tree",
        ),
    ],
)
def test_wrappers_of_the_field_are_seen_through(
    whole: Callable[[nn.Module], nn.Module], part: Callable[[nn.Module], nn.Module], mapping: str, tmp_path: Path
) -> None:
    """Saved by one module, loaded into another that holds the same weights under other names."""
    trained, fresh = bert(), bert()
    file = save(whole(trained).state_dict(), tmp_path / "a.safetensors")
    found = refusal(lambda: load_weights(part(fresh), file))
    assert found.code == "E0517"
    assert suggested(found) == f"weights {{ {mapping} }}"
    load_weights(part(fresh), file, statement(suggested(found)))
    assert equal(part(fresh), part(trained))


def test_one_component_of_voxcpm(tmp_path: Path) -> None:
    """The others are ignored by name: on purpose, and seen by who reads the spec."""
    from voxcpm.modules.minicpm4 import MiniCPM4Config, MiniCPMModel

    rope = {"type": "longrope", "long_factor": [1.0] * 8, "short_factor": [1.0] * 8}
    rope |= {"original_max_position_embeddings": 64}
    sizes = {"hidden_size": 64, "intermediate_size": 112, "num_attention_heads": 4, "num_key_value_heads": 2}
    sizes |= {
        "max_position_embeddings": 64,
        "vocab_size": 30,
        "dim_model_base": 64,
        "bos_token_id": 1,
        "eos_token_id": 2,
    }
    scales = {"rms_norm_eps": 1e-5, "rope_theta": 1e4, "scale_emb": 1, "scale_depth": 1.0, "rope_scaling": rope}
    base, residual, fresh = (
        MiniCPMModel(MiniCPM4Config(num_hidden_layers=layers, **sizes, **scales)) for layers in (3, 2, 3)
    )
    whole = nn.ModuleDict({"base_lm": base, "residual_lm": residual, "stop_head": nn.Linear(64, 2)})
    file = save(whole.state_dict(), tmp_path / "model.safetensors")
    found = refusal(lambda: load_weights(fresh, file))
    assert suggested(found) == 'weights { "base_lm.**" -> "**"  ignore "residual_lm.**", "stop_head.**" }'
    load_weights(fresh, file, statement(suggested(found)))
    assert equal(fresh, base)


words = st.sampled_from(["a", "b", "net", "x_1", "layers", "q-proj", "model"])


@settings(max_examples=20, deadline=None)
@given(theirs=st.lists(words, max_size=3), ours=st.sampled_from([(), ("net",), ("net", "inner")]))
def test_any_prefix_is_found(
    theirs: list[str], ours: tuple[str, ...], tmp_path_factory: pytest.TempPathFactory
) -> None:
    def wrapped(model: nn.Module) -> nn.Module:
        for name in reversed(ours):
            model = nn.ModuleDict({name: model})
        return model

    trained, fresh = nn.TransformerEncoderLayer(8, 2, 16), nn.TransformerEncoderLayer(8, 2, 16)
    saved = {".".join((*theirs, key)): value for key, value in trained.state_dict().items()}
    file = save(saved | {"step": torch.ones(1)}, tmp_path_factory.mktemp("prefix") / "a.safetensors")
    found = refusal(lambda: load_weights(wrapped(fresh), file))
    load_weights(wrapped(fresh), file, statement(suggested(found)))
    assert equal(fresh, trained)


def test_no_statement_is_suggested_for_another_model(tmp_path: Path) -> None:
    file = save(nn.Conv1d(3, 4, 5).state_dict(), tmp_path / "a.safetensors")
    assert refusal(lambda: load_weights(nn.LayerNorm(7), file)).helps == (
        "other shapes mean other settings: compare the spec's `model` with the config of the checkpoint",
    )


@pytest.mark.parametrize("prefix", ["", "module."])
def test_blocks_that_the_model_lacks_are_not_ignored(prefix: str, tmp_path: Path) -> None:
    """A checkpoint of three layers for a model of two is one of other settings."""
    state = {prefix + key: value for key, value in bert(layers=3).state_dict().items()}
    file = save(state, tmp_path / "a.safetensors")
    found = refusal(lambda: load_weights(bert(), file))
    assert not any("ignore" in help for help in found.helps)
