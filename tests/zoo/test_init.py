"""First values of the zoo's parameters: as watched while a model is built on fake tensors, against real ones."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from architectures import ARCHITECTURES
from first_values import agrees
from patterns import matching
from torch._subclasses.fake_tensor import FakeTensorMode

from surgery.capturing.initialisation import InitRecorder
from surgery.graph import Init

HERE = Path(__file__).parent
LINES: list[dict[str, str]] = json.loads((HERE / "init_lines.json").read_text(encoding="utf-8"))

# Parameters that start neither as one number nor at random: computed from positions, layers and channels.
SERIES = {
    "A_log": "logarithms of the numbers of states",
    "embed_positions.weight": "sinusoids",
    "position_enc": "sinusoids",
    "static_alpha": "an identity beside a column with a one",
    "time_decay": "a power of the channel",
    "time_mix_key": "a power of the channel",
    "time_mix_receptance": "a power of the channel",
    "time_mix_value": "a power of the channel",
}


@cache
def watched(name: str) -> dict[str, Init]:
    """How the parameters of an architecture were made, from building it on fake tensors."""
    mode = FakeTensorMode(allow_non_fake_inputs=True)
    recorder = InitRecorder(mode)
    with mode, recorder:
        model, _ = ARCHITECTURES[name].build()
    return {path: recorder.of(parameter) for path, parameter in model.named_parameters()}


@pytest.mark.heavy
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_every_first_value_is_as_said(name: str) -> None:
    torch.manual_seed(0)
    real = dict(ARCHITECTURES[name].build()[0].named_parameters())
    said = watched(name)
    assert said.keys() == real.keys()
    assert {path: init for path, init in said.items() if not agrees(init.value, real[path])} == {}
    assert [path for path, init in said.items() if not init.place] == []


@pytest.mark.heavy
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_a_model_built_for_real_says_the_same(name: str) -> None:
    """As `capture` builds one that does not run on fake tensors: what its values show is in what is said of them."""
    recorder = InitRecorder()
    with recorder:
        model, _ = ARCHITECTURES[name].build()
    assert {path: recorder.of(parameter) for path, parameter in model.named_parameters()} == watched(name)


@pytest.mark.heavy
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_only_series_are_unknown(name: str) -> None:
    unknown = [path for path, init in watched(name).items() if init.value == "unknown"]
    assert [path for path in unknown if not path.endswith(tuple(SERIES))] == []


@pytest.mark.heavy
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_zeros_and_their_lines_are_those_of_the_labels(name: str) -> None:
    zeros = json.loads((HERE / "labels" / f"{name}.json").read_text(encoding="utf-8"))["zero"]
    weights = {path: init for path, init in watched(name).items() if "bias" not in path.rpartition(".")[2].lower()}
    labelled = {path: line for pattern, line in zeros.items() for path in matching([pattern], weights)}
    found = {path: init.place for path, init in weights.items() if init.value == "zero"}
    assert found == labelled


@pytest.mark.heavy
@pytest.mark.parametrize("checked", LINES, ids=lambda checked: f"{checked['architecture']}:{checked['parameter']}")
def test_lines_that_were_read_by_hand(checked: dict[str, Any]) -> None:
    said = watched(checked["architecture"])
    for path in matching([checked["parameter"]], said):
        assert said[path] == Init("zero", checked["line"]), path


def test_enough_lines_were_read_by_hand() -> None:
    assert len({(checked["architecture"], checked["line"]) for checked in LINES}) >= 20
    assert all(checked["why"] for checked in LINES)
