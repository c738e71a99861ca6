"""The lock: what it holds, how it is read back, what counts as a change."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from surgery.diagnostics import SurgeryError
from surgery.planning.changes import compare
from surgery.planning.lock import lock_of, lock_text, read_lock, write_lock
from surgery.planning.plan import Plan
from surgery.planning.planner import Planned

PlanOf = Callable[..., Planned]
TEXT = """
param rank: int = 2
never role(conditioning) because "it feeds every gate"
exclude path("blocks.0.**") because "pitch"
assume init(zero) = path("loaded")
target queries { select path("blocks.*.attn.to_q") expect 3 lora { r = rank } }
train { select path("proj_out") }
checkpoint path("blocks.*") { every = 2 }
"""


@pytest.fixture
def plan(plan_of: PlanOf) -> Plan:
    return plan_of(TEXT).plan


def locked(plan: Plan, folder: Path) -> Path:
    path = folder / "toy.surg.lock"
    write_lock(plan, path)
    return path


def test_round_trip(plan: Plan, tmp_path: Path) -> None:
    lock = read_lock(locked(plan, tmp_path), plan)
    assert lock == lock_of(plan)
    assert lock is not None
    assert compare(plan, lock).is_empty


def test_one_line_a_module(plan: Plan) -> None:
    text = lock_text(lock_of(plan))
    for site in plan.sites:
        assert sum(f'"path": "{site.path}", "kind"' in line for line in text.splitlines()) == 1
    assert sum('"time"' in line for line in text.splitlines()) == 1


def test_moving_lines_of_the_spec_changes_nothing(plan: Plan, plan_of: PlanOf) -> None:
    assert compare(plan_of("\n\n\n" + TEXT).plan, lock_of(plan)).is_empty


def test_no_lock_yet(plan: Plan, tmp_path: Path) -> None:
    assert read_lock(tmp_path / "toy.surg.lock", plan) is None


def test_changes_are_named(plan: Plan, plan_of: PlanOf) -> None:
    after = TEXT.replace("0.**", "1.**").replace("role(conditioning)", "role(conditioning, output_head)")
    changes = compare(plan_of(after.replace("train {", "train when rank > 99 {"), rank=4).plan, lock_of(plan))
    assert [site.path for site in changes.added] == ["blocks.0.attn.to_q"]
    assert [site.path for site in changes.removed] == ["blocks.1.attn.to_q"]
    assert [(c.path, c.fields["r"]) for c in changes.changed] == [(f"blocks.{i}.attn.to_q", (2, 4)) for i in (2, 3)]
    assert {(one.what, tuple(one.gained), tuple(one.lost)) for one in changes.lists} == {
        ("never role(conditioning)", (), ("time",)),
        ("never role(conditioning, output_head)", ("time", "proj_out"), ()),
        ("excluded from queries", ("blocks.1.attn.to_q",), ("blocks.0.attn.to_q",)),
        ("train", (), ("proj_out",)),
    }
    assert changes.totals["trained"] == (64, 0)


def test_versions_are_no_change_by_themselves(plan: Plan) -> None:
    lock = lock_of(plan)
    older = lock.model_copy(
        update={"fingerprints": lock.fingerprints.model_copy(update={"versions": {"torch": "1.0"}})}
    )
    changes = compare(plan, older)
    assert changes.is_empty
    assert changes.versions == {"torch": ("1.0", None)}


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: text[: len(text) // 2],
        lambda text: "",
        lambda text: "[" * 100_000,
        lambda text: "<<<<<<< HEAD\n" + text,
        lambda text: text.replace('"format_version": 1', '"format_version": 9'),
        lambda text: text.replace('"added"', '"aded"', 1),
        lambda text: json.dumps([text]),
    ],
)
def test_a_damaged_lock(plan: Plan, tmp_path: Path, damage: Callable[[str], str]) -> None:
    path = locked(plan, tmp_path)
    path.write_text(damage(path.read_text()))
    with pytest.raises(SurgeryError) as raised:
        read_lock(path, plan)
    assert [diagnostic.code for diagnostic in raised.value.diagnostics] == ["E0504"]


def test_the_lock_of_another_spec(plan: Plan, tmp_path: Path) -> None:
    path = locked(plan.model_copy(update={"spec": "other.surg"}), tmp_path)
    with pytest.raises(SurgeryError) as raised:
        read_lock(path, plan)
    (found,) = raised.value.diagnostics
    assert (found.code, found.message) == (
        "E0505",
        "the lock belongs to another spec: its spec is other.surg, not toy.surg",
    )
