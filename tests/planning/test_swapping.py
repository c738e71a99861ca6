"""Whether an adapter can be swapped into a prepared model, from two locks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from surgery.planning.lock import Lock, lock_of
from surgery.planning.planner import Planned
from surgery.planning.swapping import preparation_obstacles, readiness

PlanOf = Callable[..., Planned]
QUERIES = tuple(f"blocks.{index}.attn.to_q" for index in range(4))


@pytest.fixture
def locked(plan_of: PlanOf) -> Callable[..., Lock]:
    """`locked("lora { r = 4 }", select, more)`: the lock of a spec of one target and further statements."""

    def make(method: str, select: str = 'path("blocks.*.attn.to_q")', more: str = "") -> Lock:
        planned = plan_of(f"target a {{ select {select} {method} }}\n{more}")
        assert planned.plan.applyable, planned.diagnostics
        return lock_of(planned.plan)

    return make


def reasons(prepared: Lock, other: Lock, max_rank: int | None = None) -> dict[str, tuple[str, ...]]:
    found = readiness(prepared, other, max_rank)
    assert found.ready == (not found.obstacles)
    return {obstacle.reason: obstacle.paths for obstacle in found.obstacles}


def test_rank_scale_dropout_and_start_may_differ(locked: Callable[..., Lock]) -> None:
    prepared = locked("lora { r = 4  alpha = 8 }")
    other = locked("lora { r = 16  alpha = 4  rslora = true  dropout = 0.1  init = false }")
    found = readiness(prepared, other)
    assert found.ready
    assert (found.max_rank, found.silent) == (16, ())
    assert found.padding == dict.fromkeys(QUERIES, 0)
    assert readiness(other, prepared, 32).padding == dict.fromkeys(QUERIES, 28)


def test_some_of_the_modules(locked: Callable[..., Lock]) -> None:
    prepared, other = locked("lora { r = 4 }"), locked("lora { r = 2 }", 'path("blocks.{0,2}.attn.to_q")')
    found = readiness(prepared, other, 8)
    assert found.ready
    assert found.padding == {QUERIES[0]: 6, QUERIES[2]: 6}
    assert found.silent == (QUERIES[1], QUERIES[3])
    assert reasons(other, prepared) == {"adapted by it, and not in the prepared model": (QUERIES[1], QUERIES[3])}


def test_a_rank_above_the_prepared_one(locked: Callable[..., Lock]) -> None:
    small, large = locked("lora { r = 4 }"), locked("lora { r = 16 }")
    assert reasons(small, large, 8) == {"rank 16, above the prepared 8": QUERIES}
    assert reasons(large, small, 8) == {"its rank 16 is above the prepared 8": QUERIES}
    assert reasons(small, large, 16) == {}


@pytest.mark.parametrize(
    ("method", "reason"),
    [
        ("loha { r = 4 }", "loha, in the prepared model lora"),
        ("lora { r = 4  dora = true }", "dora = true, in the prepared model false"),
        ("lora { r = 4  lora_bias = true }", "lora_bias = true, in the prepared model false"),
        ('lora { r = 4  init = "pissa" }', "init = pissa has changed the base weights that it was trained with"),
    ],
)
def test_what_changes_the_computation(locked: Callable[..., Lock], method: str, reason: str) -> None:
    assert reasons(locked("lora { r = 4 }"), locked(method)) == {reason: QUERIES}


@pytest.mark.parametrize(
    ("method", "reason"),
    [
        ("lora { r = 4  dora = true }", "DoRA rescales the base weight whatever the scale is"),
        ('lora { r = 4  bdlora = "A"  nblocks = 2 }', "bdlora computes the update by the layout of the factors"),
        ('lora { r = 4  init = "pissa" }', "init = pissa changes the base weights"),
        ("ia3 {}", "ia3 has no rank to pad and no scale that removes it"),
    ],
)
def test_what_cannot_be_prepared(locked: Callable[..., Lock], method: str, reason: str) -> None:
    lock = locked(method)
    (obstacle,) = preparation_obstacles(lock, 8)
    assert obstacle.reason.startswith(reason)
    assert obstacle.paths == QUERIES
    assert not readiness(lock, lock).ready


def test_a_rank_at_which_lokr_decomposes_other_factors(locked: Callable[..., Lock]) -> None:
    """Of 8 x 8, with a W1 of 2 x 2, W2 is 4 x 4: in two parts at a rank of 1, whole from 2 on."""
    low, high, higher = (locked(f"lokr {{ r = {r}  decompose_factor = 2 }}") for r in (1, 2, 3))
    (reason,) = reasons(low, high)
    assert reason.startswith("rank 2, at which LoKr decomposes other factors")
    assert reasons(high, higher) == {}


def test_modules_that_are_trained_in_full(locked: Callable[..., Lock]) -> None:
    plain, more = locked("lora { r = 4 }"), locked("lora { r = 4 }", more='train { select path("proj_out") }')
    assert reasons(plain, more) == {"trained in full with it only": ("proj_out",)}
    assert {reason.partition(":")[0] for reason in reasons(more, plain)} == {
        "trained in full",
        "trained in full in the prepared model only",
    }


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"model": "other:Model"}, "the plan is for other:Model, the prepared one for "),
        (
            {"fingerprints": {"spec": "", "graph": "sha256:0123456789abcdef", "versions": {}}},
            "the plan was made on another graph (sha256:0123456789ab, prepared ",
        ),
    ],
)
def test_another_base_model(locked: Callable[..., Lock], change: dict[str, Any], reason: str) -> None:
    lock = locked("lora { r = 4 }")
    (found,) = reasons(lock, Lock.model_validate({**lock.model_dump(), **change}))
    assert found.startswith(reason)


def test_another_shape_of_a_module(locked: Callable[..., Lock]) -> None:
    lock = locked("lora { r = 4 }")
    sites = [site.model_copy(update={"shape": [8, 16]}) for site in lock.sites[:1]] + lock.sites[1:]
    (reason,) = reasons(lock, lock.model_copy(update={"sites": sites}))
    assert reason == "a Linear of shape [8, 16], in the prepared model a Linear of shape [8, 8]"


def test_adapters_on_parameters(locked: Callable[..., Lock]) -> None:
    lock = locked("lora { r = 4 }", 'param("blocks.{0,1}.ff.0.weight")')
    (obstacle,) = preparation_obstacles(lock, 8)
    assert obstacle.reason.startswith("an adapter on a parameter")
    assert obstacle.paths == ("blocks.0.ff.0.weight", "blocks.1.ff.0.weight")


def test_every_reason_is_listed_at_once(locked: Callable[..., Lock]) -> None:
    other = locked("lora { r = 16  lora_bias = true }", 'path("blocks.*.attn.to_{q,k}")')
    assert len(reasons(locked("lora { r = 4 }"), other, 8)) == 3
