"""Checkpoints compared with models, mapped as the spec says, and loaded: exactly, or not at all."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

import surgery
from surgery.capturing.build import build_model
from surgery.capturing.checkpoint import read_checkpoint
from surgery.capturing.from_spec import capture_spec
from surgery.capturing.weights import fit_weights, load_weights
from surgery.cli.main import main
from surgery.demo.pretrained import model_folder, spec_file
from surgery.diagnostics import Diagnostic, Source, SurgeryError
from surgery.language import LoadedSpec, load_source

State = Mapping[str, Tensor]
Write = Callable[..., LoadedSpec]

F5 = """model f5_tts.model:DiT {
  dim = 64  depth = 2  heads = 2  dim_head = 32  ff_mult = 2  text_dim = 32  conv_layers = 1  text_num_embeds = 50
}
inputs { x = f32[2, 64, 100]  cond = f32[2, 64, 100]  text = i64[2, 20] < 50  time = f32[2] }
"""
F5_WEIGHTS = """weights {
  "ema_model.transformer.**" -> "**"
  ignore "ema_model.mel_spec.**", "initted", "step"  because "the trainer's own"
}
"""
LAYER = """model torch.nn:TransformerEncoderLayer { d_model = 8  nhead = 2  dim_feedforward = 16  batch_first = true }
inputs { src = f32[1, 4, 8] }
"""


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """Writes `a.surg` into the current folder, a fresh one, and loads it."""
    monkeypatch.chdir(tmp_path)

    def spec(*parts: str) -> LoadedSpec:
        Path("a.surg").write_text("surg 1\n" + "".join(parts), encoding="utf-8")
        return surgery.load("a.surg")

    return spec


def weights_of(text: str) -> LoadedSpec:
    """A spec of nothing but a `weights` statement."""
    return load_source(Source("a.surg", f"surg 1\n{text}"), Path("a.surg"), {})


def save(state: State, path: Path | str) -> Path:
    save_file({key: value.detach().clone() for key, value in state.items()}, path)
    return Path(path)


def equal(model: nn.Module, state: State) -> bool:
    own = model.state_dict()
    return own.keys() == state.keys() and all(torch.equal(own[key], state[key]) for key in own)


def refusal(call: Callable[[], object]) -> Diagnostic:
    """The one diagnostic of a call that is refused."""
    with pytest.raises(SurgeryError) as raised:
        call()
    (found,) = raised.value.diagnostics
    assert found.helps
    return found


def bert(layers: int = 2) -> nn.Module:
    from transformers import BertConfig, BertForMaskedLM

    config = {"hidden_size": 32, "num_attention_heads": 2, "intermediate_size": 48, "vocab_size": 60}
    return BertForMaskedLM(BertConfig(num_hidden_layers=layers, **config))


# --- the checkpoints of real trainers


@pytest.fixture(scope="module")
def f5(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, State]:
    """What F5-TTS saves, `EMA(CFM(DiT))` as in f5_tts/model/trainer.py, and the state of its DiT."""
    from ema_pytorch import EMA
    from f5_tts.model import CFM, DiT

    torch.manual_seed(1)
    dit = DiT(dim=64, depth=2, heads=2, dim_head=32, ff_mult=2, text_dim=32, conv_layers=1, text_num_embeds=50)
    for parameter in dit.parameters():
        nn.init.normal_(parameter)
    trained = EMA(CFM(transformer=dit), include_online_model=False).state_dict()
    # Buffers of the mel front end, which earlier versions saved and infer/utils_infer.py drops again.
    trained |= {"ema_model.mel_spec.mel_stft.spectrogram.window": torch.ones(8)}
    assert {"initted", "step", "ema_model.transformer.proj_out.weight"} <= trained.keys()
    return save(trained, tmp_path_factory.mktemp("f5") / "model_1200.safetensors"), dict(dit.state_dict())


def test_the_checkpoint_of_f5_tts_is_compared_and_loaded(
    f5: tuple[Path, State], write: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    file, state = f5
    spec = write(F5, F5_WEIGHTS)
    assert main(["capture", "a.surg", "--weights", str(file)]) == 0
    assert capsys.readouterr().out.endswith(
        f"weights: all fit, {len(state)} keys, {len(state)} renamed, from {file}\n"
        "ignored: ema_model.mel_spec.** 1, initted 1, step 1\n"
    )
    assert equal(build_model(spec, weights=file), state)


def test_a_checkpoint_changes_nothing_of_the_graph(f5: tuple[Path, State], write: Write) -> None:
    """Its zeros are none any more; the init facts are those of the code, with the line that made them."""
    checkpoint, plain = read_checkpoint(f5[0]), capture_spec(write(F5))
    spec = write(F5, F5_WEIGHTS)
    graph = capture_spec(spec, on_built=lambda model: str(fit_weights(model, checkpoint, spec.tree.weights)) and None)
    assert graph.fingerprint == plain.fingerprint
    assert graph["proj_out"].init["weight"].value == "zero"
    assert (f5[1]["proj_out.weight"] != 0).all()


def test_the_help_is_the_statement_that_makes_it_fit(
    f5: tuple[Path, State], write: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    write(F5)
    assert main(["capture", "a.surg", "--weights", str(f5[0])]) == 1
    assert not Path("a.graph.json").exists()
    help = re.search(r"`(weights \{.*\})`; then all of the model's \d+ keys fit", capsys.readouterr().err)
    assert help
    assert equal(build_model(write(F5, help[1]), weights=f5[0]), f5[1])


def test_all_minilm_as_published_and_renamed(write: Write) -> None:
    published = model_folder() / "model.safetensors"
    state = load_file(published)
    minilm = spec_file().read_text(encoding="utf-8").removeprefix("surg 1\n")
    fit = []
    capture_spec(write(minilm), on_built=lambda m: fit.append(fit_weights(m, read_checkpoint(published))))
    assert str(fit[0]).startswith("weights: all fit, 103 keys, from ")
    # As sentence-transformers names the modules of a BertForMaskedLM.
    renamed = save({f"0.auto_model.bert.{key}": value for key, value in state.items()} | {"step": torch.ones(1)}, "b")
    mapping = 'weights { "0.auto_model.bert.**" -> "**"  ignore "step" }'
    model = build_model(write(minilm, mapping), weights=renamed)
    assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())


# --- what fits


class Odd(nn.Module):
    """Two weights side by side in one storage, a tied one, a saved buffer and one that is not saved."""

    def __init__(self) -> None:
        super().__init__()
        flat = torch.arange(8.0)
        self.one, self.two = nn.Parameter(flat[:4]), nn.Parameter(flat[4:])
        self.embed, self.head = nn.Embedding(3, 2), nn.Linear(2, 3, bias=False)
        self.head.weight = self.embed.weight
        self.register_buffer("mean", torch.zeros(2))
        self.register_buffer("positions", torch.arange(3), persistent=False)


@pytest.mark.parametrize("mapped", [False, True])
@pytest.mark.parametrize(
    ("without", "added", "missing"),
    [
        ((), {}, None),
        (("head.weight",), {}, None),
        (("embed.weight",), {}, None),
        ((), {"positions": torch.arange(3)}, None),
        ((), {"positions": torch.arange(9)}, None),
        (("embed.weight", "head.weight"), {}, "2 missing: embed.weight, head.weight"),
        (("one",), {}, "1 missing: one"),
        (("mean",), {}, "1 missing: mean"),
    ],
)
def test_tied_weights_and_own_buffers(
    without: tuple[str, ...], added: State, missing: str | None, mapped: bool, tmp_path: Path
) -> None:
    state = {key: value for key, value in Odd().state_dict().items() if key not in without} | dict(added)
    state = {f"net.{key}" if mapped else key: value + 1 for key, value in state.items()}
    file, model = save(state, tmp_path / "a.safetensors"), Odd()
    weights = weights_of('weights { "net.**" -> "**" }').tree.weights if mapped else None
    if missing:
        assert refusal(lambda: load_weights(model, file, weights)).notes == (missing,)
        assert model.two.tolist() == [4, 5, 6, 7]
    else:
        load_weights(model, file, weights)
        assert model.two.tolist() == [5, 6, 7, 8]
        assert model.head.weight is model.embed.weight
    assert torch.equal(model.positions, torch.arange(3))


@pytest.mark.parametrize(
    ("stored", "own", "fits"),
    [
        (torch.bfloat16, torch.float32, True),
        (torch.float32, torch.float16, True),
        (torch.float8_e4m3fn, torch.bfloat16, True),
        (torch.int32, torch.int64, True),
        (torch.uint8, torch.bool, True),
        (torch.int8, torch.float32, False),
        (torch.float32, torch.int64, False),
        (torch.complex64, torch.float32, False),
    ],
)
def test_types_are_converted_within_their_sort(
    stored: torch.dtype, own: torch.dtype, fits: bool, tmp_path: Path
) -> None:
    """An int8 file for a float model is a quantised one: its values alone mean nothing."""
    model, values = nn.Module(), torch.tensor([0, 1, 1]).to(stored)
    model.register_buffer("x", torch.zeros(3, dtype=own))
    file = save({"x": values}, tmp_path / "a.safetensors")
    if fits:
        words = [str(dtype).removeprefix("torch.") for dtype in (stored, own)]
        assert str(fit_weights(model, read_checkpoint(file))).endswith(f"converted: 1 from {words[0]} to {words[1]}")
        load_weights(model, file)
        assert torch.equal(model.x, values.to(own))
    else:
        assert refusal(lambda: load_weights(model, file)).notes[0].startswith("1 of another type: x ")
        assert not model.x.any()


def test_everything_that_differs_is_said_at_once(tmp_path: Path) -> None:
    state = {key: value for key, value in bert().state_dict().items() if "attention.self" not in key}
    state |= {"extra.0.w": torch.ones(1), "extra.1.w": torch.ones(1)}
    state["bert.embeddings.word_embeddings.weight"] = torch.ones(61, 32)
    found = refusal(lambda: load_weights(bert(), save(state, tmp_path / "a.safetensors")))
    missing, *rest = found.notes
    assert missing.startswith(
        "12 missing: bert.encoder.layer.[0:2].attention.self.query.weight, bert.encoder.layer.[0:2]"
    )
    assert rest == [
        "2 unexpected: extra.[0:2].w",
        "1 of another shape: bert.embeddings.word_embeddings.weight [61, 32] for [60, 32]",
    ]


def test_nothing_is_loaded_where_not_all_fits(tmp_path: Path) -> None:
    model = bert()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    other = save({key: value + 1 for key, value in bert(layers=1).state_dict().items()}, tmp_path / "a.safetensors")
    assert refusal(lambda: load_weights(model, other)).code == "E0517"
    assert equal(model, before)


# --- any renaming

words = st.sampled_from(["a", "b", "net", "x_1", "layers", "q-proj", "model"])
prefixes = st.lists(words, max_size=3).map(tuple)
numbered = st.lists(st.one_of(words, st.sampled_from(["0", "12"])), max_size=3).map(tuple)


def under(prefix: tuple[str, ...], name: str) -> str:
    return ".".join((*prefix, name))


def encoder() -> nn.Module:
    layer = nn.TransformerEncoderLayer(8, 2, 16)
    model = nn.TransformerEncoder(layer, 2, norm=nn.LayerNorm(8), enable_nested_tensor=False)
    for parameter in model.parameters():  # the layers are copies of one
        nn.init.normal_(parameter)
    return model


@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_any_renamed_checkpoint_loads_bit_for_bit(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Each part of a model gets a prefix of its own, the numbers of blocks and the last names stay where they are."""
    model, other = encoder(), encoder()
    parts = {"layers.*.self_attn": "attn", "layers.*.linear1": "up", "layers.*.linear2": "down", "norm": "end"}
    parts |= {"layers.*.norm1": "ln_1", "layers.*.norm2": "ln_2"}
    named, lines = dict(model.state_dict()), []
    for ours, end in parts.items():
        star = ".*" if "*" in ours else ""
        theirs = under(data.draw(numbered), end + star)
        lines.append(f'"{theirs}.**" -> "{ours}.**"')
        pattern = re.compile(ours.replace(".", r"\.").replace("*", r"(\d+)") + r"\.(.*)")
        for key in list(named):
            if (fits := pattern.fullmatch(key)) and key in model.state_dict():
                name = theirs.replace("*", fits[1]) if star else theirs
                named[f"{name}.{fits[fits.re.groups]}"] = named.pop(key)
    extra = data.draw(st.sets(st.sampled_from(["initted", "optimizer.step", "ema.decay"])))
    named |= {key: torch.ones(2) for key in extra}
    lines += [f'ignore "{key}"' for key in sorted(extra)]
    file = save(named, tmp_path_factory.mktemp("renamed") / "a.safetensors")
    load_weights(other, file, weights_of(f"weights {{ {'  '.join(data.draw(st.permutations(lines)))} }}").tree.weights)
    assert equal(other, model.state_dict())


# --- mappings that do not fit


@pytest.mark.parametrize(
    ("mapping", "marked", "helps"),
    [
        ('"ema_net.**" -> "**"  "ema.**" -> "**"', '"ema_net.**"', "did you mean `ema.net`, as in 12 keys?"),
        ('"model.**" -> "**"', '"model.**"', "its keys start with `ema` (12), `step` (1)"),
        ('"ema.net.**" -> "**"  ignore "stepp"', '"stepp"', "did you mean `step`, as in 1 key?"),
        ('"ema.**" -> "**"  "ema.net.**" -> "**"', '"ema.net.**" -> "**"', "narrow one of the two"),
    ],
)
def test_a_mapping_for_another_checkpoint(mapping: str, marked: str, helps: str, tmp_path: Path) -> None:
    model = nn.TransformerEncoderLayer(8, 2, 16)
    state = {f"ema.net.{key}": value for key, value in model.state_dict().items()} | {"step": torch.ones(1)}
    checkpoint = read_checkpoint(save(state, tmp_path / "a.safetensors"))
    with pytest.raises(SurgeryError) as raised:
        fit_weights(model, checkpoint, weights_of(f"weights {{ {mapping} }}").tree.weights)
    found = raised.value.diagnostics[0]
    assert (found.code, found.span and found.span.text) == ("E0518", marked)
    assert helps in found.helps[0]


def test_two_keys_with_one_name(tmp_path: Path) -> None:
    model = nn.LayerNorm(4)
    state = {"a.weight": torch.ones(4), "b.weight": torch.ones(4), "a.bias": torch.ones(4), "b.bias": torch.ones(4)}
    checkpoint = read_checkpoint(save(state, tmp_path / "a.safetensors"))
    statement = weights_of('weights { "a.**" -> "**"  "b.**" -> "**" }').tree.weights
    found = refusal(lambda: fit_weights(model, checkpoint, statement))
    assert found.code == "E0518"
    assert found.message == "several keys get the name `bias`, and so with 1 more"
    assert found.span
    assert (found.labels[0].span.text, found.span.text) == ('"a.**" -> "**"', '"b.**" -> "**"')
    load_weights(
        model, tmp_path / "a.safetensors", weights_of('weights { "a.**" -> "**"  ignore "b.**" }').tree.weights
    )
    assert model.bias.tolist() == [1.0] * 4


def test_a_checkpoint_of_the_models_own_names_needs_no_mapping(write: Write) -> None:
    """What `surgery export --to merged` writes goes through the same spec as the file that training began with."""
    spec = write(LAYER, 'weights { "ema.**" -> "**"  ignore "step" }')
    state = build_model(spec, seed=3).state_dict()
    assert equal(build_model(spec, weights=save(state, "merged.safetensors")), state)
    state = {key: value for key, value in state.items() if key != "norm1.bias"}
    assert refusal(lambda: build_model(spec, weights=save(state, "less.safetensors"))).notes == (
        "1 missing: norm1.bias",
    )


def test_verify_loads_the_raw_checkpoint(write: Write, capsys: pytest.CaptureFixture[str]) -> None:
    target = 'target adapted {\n  select path("linear1")\n  expect 1\n  lora { r = 1  alpha = 1 }\n}\n'
    spec = write(LAYER, target, 'weights { "ema.**" -> "**" }\n')
    save({f"ema.{key}": value for key, value in build_model(spec, seed=5).state_dict().items()}, "ema.safetensors")
    assert main(["capture", "a.surg", "--weights", "ema.safetensors"]) == 0
    assert main(["verify", "a.surg", "--weights", "ema.safetensors"]) == 0
    save({f"ema.{key}": torch.ones(3) for key in build_model(spec).state_dict()}, "ema.safetensors")
    capsys.readouterr()
    assert main(["verify", "a.surg", "--weights", "ema.safetensors"]) == 1
    assert "12 of another shape: self_attn.in_proj_weight [3] for [24, 8]" in capsys.readouterr().err
