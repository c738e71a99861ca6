"""Files of weights: headers only, shards, and what is none."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

import surgery
from surgery.capturing.build import build_model
from surgery.capturing.checkpoint import read_checkpoint
from surgery.cli.main import main
from surgery.diagnostics import Diagnostic, SurgeryError
from surgery.language import LoadedSpec

State = Mapping[str, Tensor]
Write = Callable[..., LoadedSpec]
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


def test_a_hundred_gigabytes_cost_milliseconds(write: Write, capsys: pytest.CaptureFixture[str]) -> None:
    """A file with a header and a hole: reading any of its data would take minutes, or the machine's memory."""
    side = 158_200
    header = {"model.weight": {"dtype": "F32", "shape": [side, side], "data_offsets": [0, 4 * side * side]}}
    text = json.dumps(header).encode()
    with Path("large.safetensors").open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        file.truncate(8 + len(text) + 4 * side * side)
    assert Path("large.safetensors").stat().st_size > 100e9
    started = time.process_time()
    checkpoint = read_checkpoint(Path("large.safetensors"))
    assert time.process_time() - started < 0.1
    linear = f"model torch.nn:Linear {{ in_features = {side}  out_features = {side}  bias = false }}\n"
    spec = write(linear, f"inputs {{ input = f32[1, {side}] }}\n", 'weights { "model.**" -> "**" }')
    assert str(checkpoint.tensors[0].file) == "large.safetensors"
    assert main(["capture", str(spec.path), "--weights", "large.safetensors"]) == 0
    assert "weights: all fit, 1 key, 1 renamed, from large.safetensors" in capsys.readouterr().out


def halves(state: State) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    keys = list(state)
    return {key: state[key] for key in keys[::2]}, {key: state[key] for key in keys[1::2]}


def test_shards_by_folder_by_index_and_one_by_one(
    write: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spec = write(LAYER)
    state = build_model(spec, seed=7).state_dict()
    (tmp_path / "shards").mkdir()
    files = [save(half, f"shards/model-{n}.safetensors") for n, half in enumerate(halves(state))]
    assert equal(build_model(spec, weights=Path("shards")), state)
    assert equal(build_model(spec, weights=files), state)
    # With an index, other files of the folder are not of the checkpoint.
    save({"left": torch.ones(1)}, "shards/adapter_model.safetensors")
    shards = {key: file.name for file, half in zip(files, halves(state), strict=True) for key in half}
    index = Path("shards/model.safetensors.index.json")
    index.write_text(json.dumps({"metadata": {}, "weight_map": shards}), encoding="utf-8")
    for source in (Path("shards"), index):
        assert equal(build_model(spec, weights=source), state)
    command = ["capture", "a.surg", "--weights", str(files[0]), "--weights", str(files[1])]
    assert main(command) == 0
    assert f"weights: all fit, 12 keys, from {files[0]} and 1 more" in capsys.readouterr().out


def test_a_key_in_two_files_has_no_one_value(write: Write) -> None:
    spec = write(LAYER)
    state = build_model(spec).state_dict()
    files = [save(state, "a.safetensors"), save({"norm1.bias": torch.ones(8)}, "b.safetensors")]
    found = refusal(lambda: build_model(spec, weights=files))
    assert (found.code, found.notes) == (
        "E0518",
        ("`norm1.bias` and `norm1.bias`, in a.safetensors and b.safetensors",),
    )


def damage(file: Path, **entry: object) -> None:
    """A file whose one entry of the header is this."""
    text = json.dumps({"weight": entry}).encode()
    file.write_bytes(len(text).to_bytes(8, "little") + text + bytes(8))


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda file: None, "No such file"),
        (lambda file: file.mkdir(), "the folder has no .safetensors file"),
        (lambda file: file.write_bytes(b""), "no safetensors file"),
        (lambda file: file.write_bytes(b"PK\3\4" * 64), "no safetensors file"),
        (lambda file: file.write_bytes((4).to_bytes(8, "little") + b"[{}]"), "no safetensors file"),
        (lambda file: file.write_bytes((2**40).to_bytes(8, "little") + b"{}"), "no safetensors file"),
        (lambda file: damage(file, dtype="F32", shape=[2]), "no safetensors file"),
        (lambda file: damage(file, dtype="F32", shape=2, data_offsets=[0, 8]), "no safetensors file"),
        (
            lambda file: damage(file, dtype="F32", shape=[4], data_offsets=[0, 16]),
            "it has 83 bytes where its header describes 91",
        ),
    ],
)
def test_what_is_no_checkpoint(make: Callable[[Path], object], says: str, tmp_path: Path) -> None:
    make(tmp_path / "a.safetensors")
    found = refusal(lambda: read_checkpoint(tmp_path / "a.safetensors"))
    assert (found.code, found.place) == ("E0501", str(tmp_path / "a.safetensors"))
    assert says in found.message


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{", "no index"),
        ("[]", "no index"),
        ('{"weight_map": []}', "no index"),
        ('{"weight_map": {"a": 3}}', "no index"),
        ('{"weight_map": {"a": "gone.safetensors"}}', "No such file"),
    ],
)
def test_what_is_no_index(text: str, says: str, tmp_path: Path) -> None:
    (tmp_path / "model.safetensors.index.json").write_text(text, encoding="utf-8")
    found = refusal(lambda: read_checkpoint(tmp_path))
    assert found.code == "E0501"
    assert says in found.message


def test_two_indices_in_a_folder(tmp_path: Path) -> None:
    for name in ("model.fp16", "model"):
        (tmp_path / f"{name}.safetensors.index.json").write_text("{}", encoding="utf-8")
    found = refusal(lambda: read_checkpoint(tmp_path))
    assert "model.fp16.safetensors.index.json, model.safetensors.index.json" in found.message
