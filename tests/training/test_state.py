import json

import pytest
import torch

from surgery.diagnostics import SurgeryError
from surgery.training.rng import read_rng, write_rng
from surgery.training.state import RunRecord, read_state, restore_optimizer, write_state


def record(**changes):
    values = {
        "step": 3,
        "epoch": 1,
        "samples_seen": 24,
        "samples": 20,
        "processes": 1,
        "learning_rate": 0.1 + 0.2,
        "config": {"seed": 1},
        "spec": "sha256:a",
        "graph": "sha256:b",
        "versions": {},
    }
    return RunRecord(**{**values, **changes})


def make():
    torch.manual_seed(0)
    parameters = {
        "a.weight": torch.nn.Parameter(torch.randn(3, 4)),
        "b": torch.nn.Parameter(torch.randn(5).to(torch.bfloat16)),
    }
    return parameters, torch.optim.AdamW(parameters.values(), lr=0.01)


def step(parameters, optimizer):
    for parameter in parameters.values():
        parameter.grad = torch.randn_like(parameter)
    optimizer.step()


def test_the_optimiser_goes_on_bit_for_bit(tmp_path):
    parameters, optimizer = make()
    for _ in range(3):
        step(parameters, optimizer)
    rng = read_rng()
    write_state(tmp_path, record(), optimizer, parameters, [rng], {})
    values = {name: p.detach().clone() for name, p in parameters.items()}
    step(parameters, optimizer)

    others, other = make()
    state = read_state(tmp_path)
    restore_optimizer(other, others, state)
    for name, parameter in others.items():
        parameter.data.copy_(values[name])
    write_rng(state.rng(0))
    step(others, other)
    assert all(torch.equal(others[name], parameters[name]) for name in parameters)
    assert {p.name for p in tmp_path.iterdir()} == {"state.json", "state.safetensors"}
    assert (state.record.step, state.record.learning_rate) == (3, 0.1 + 0.2)


def spoil_version(folder):
    content = json.loads((folder / "state.json").read_text())
    (folder / "state.json").write_text(json.dumps(content | {"format_version": 99}))


@pytest.mark.parametrize(
    "spoil",
    [
        lambda folder: (folder / "state.json").unlink(),
        lambda folder: (folder / "state.json").write_text("[]"),
        lambda folder: (folder / "state.json").write_text('{"format_version": 1'),
        lambda folder: (folder / "state.json").write_text('{"format_version": 1}'),
        lambda folder: (folder / "state.json").write_bytes(b"\xff\xfe"),
        lambda folder: (folder / "state.safetensors").unlink(),
        lambda folder: (folder / "state.safetensors").write_bytes(b""),
        spoil_version,
    ],
)
def test_a_damaged_state_is_named(tmp_path, spoil):
    parameters, optimizer = make()
    write_state(tmp_path, record(), optimizer, parameters, [read_rng()], {})
    spoil(tmp_path)
    with pytest.raises(SurgeryError) as caught:
        read_state(tmp_path)
    [diagnostic] = caught.value.diagnostics
    assert (diagnostic.code, diagnostic.place) == ("E0515", str(tmp_path))


@pytest.mark.parametrize("changes", [{"step": "3"}, {"config": 3}, {"rng": {}}])
def test_a_record_of_other_types_is_refused(tmp_path, changes):
    parameters, optimizer = make()
    write_state(tmp_path, record(), optimizer, parameters, [read_rng()], {})
    file = tmp_path / "state.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))
    with pytest.raises(SurgeryError, match=f"its `{next(iter(changes))}` is"):
        read_state(tmp_path)
