import json
from dataclasses import fields

import pytest

from surgery.diagnostics import SurgeryError
from surgery.training import TrainConfig


def messages(**settings):
    with pytest.raises(SurgeryError) as caught:
        TrainConfig(**{"out": "run", **settings})
    assert {d.code for d in caught.value.diagnostics} == {"E0515"}
    assert all(d.helps for d in caught.value.diagnostics)
    return [d.message for d in caught.value.diagnostics]


def test_every_field_has_help_and_a_range_that_its_default_is_in():
    for knob in fields(TrainConfig):
        assert knob.metadata["help"]
        assert knob.metadata["range"].wants
        assert knob.name == "out" or knob.metadata["range"].holds(knob.default), knob.name


def test_all_wrong_fields_are_reported_at_once():
    found = messages(steps=0, batch_size=-1, learning_rate=float("nan"), schedule="cosin", betas=(0.9, 1.0), seed=-1)
    assert [message.split("`")[1] for message in found] == [
        "steps", "batch_size", "learning_rate", "betas", "schedule", "seed",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("steps", 1.5),
        ("steps", True),
        ("batch_size", "8"),
        ("gradient_accumulation", 0),
        ("learning_rate", 0),
        ("weight_decay", -0.1),
        ("betas", (0.9,)),
        ("betas", [0.9, 0.99]),
        ("warmup_steps", -1),
        ("max_grad_norm", 0.0),
        ("mixed_precision", "fp8"),
        ("num_workers", None),
        ("save_every", 0),
        ("log_every", None),
        ("keep_last", 0),
        ("tensorboard", 1),
        ("out", ""),
    ],
)
def test_a_value_out_of_range_is_refused(field, value):
    [message] = messages(**{"steps": 10, field: value})
    assert f"`{field}` cannot be {value!r}" == message


def test_the_length_is_given_once():
    assert messages() == ["of `steps` and `epochs`, neither is given"]
    assert messages(steps=1, epochs=1) == ["of `steps` and `epochs`, both are given"]


def test_json_round_trip_says_that_nothing_changed():
    config = TrainConfig(out="run", steps=10, learning_rate=0.1 + 0.2, schedule="cosine")
    assert config.changes(json.loads(json.dumps(config.to_json()))) == []


def test_changes_lists_what_decides_the_outcome_and_nothing_else():
    start = TrainConfig(out="a", steps=10, schedule="cosine", seed=1)
    other = TrainConfig(out="b", steps=11, schedule="cosine", seed=2, num_workers=3, log_every=1, resume="latest")
    assert other.changes(start.to_json()) == ["steps: 10 -> 11", "seed: 1 -> 2"]


def test_a_run_at_a_constant_rate_may_go_on_for_longer():
    start = TrainConfig(out="a", steps=10)
    assert TrainConfig(out="a", steps=20).changes(start.to_json()) == []
    assert TrainConfig(out="a", steps=20, schedule="linear").changes(start.to_json()) != []
