"""Claims that cannot all be granted."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from surgery.planning.planner import Planned

PlanOf = Callable[..., Planned]
ALL = 'target all_queries { select path("blocks.*.attn.to_q") expect 4 lora { r = 2 } }\n'
FIRST = 'target first { select path("blocks.0.attn.to_q") expect 1 lora { r = 4 } }\n'


def codes(planned: Planned) -> list[str]:
    return [diagnostic.code for diagnostic in planned.diagnostics if diagnostic.is_error]


def test_two_targets_on_one_module(plan_of: PlanOf) -> None:
    planned = plan_of(ALL + FIRST)
    (found,) = planned.diagnostics
    assert found.code == "E0302"
    assert found.label == "selects blocks.0.attn.to_q"
    assert found.helps[0] == "let one win with `target first overrides all_queries`"


def test_the_way_out_of_three_claims_names_two_that_are_not_settled(plan_of: PlanOf) -> None:
    second = FIRST.replace("first", "second overrides all_queries")
    (found,) = plan_of(ALL + second + FIRST).diagnostics
    assert found.helps[0] == "let one win with `target first overrides all_queries`"
    (found,) = plan_of(ALL + second + FIRST.replace("first", "first overrides all_queries")).diagnostics
    assert found.helps[0] == "let one win with `target first overrides second`"


def test_overriding_decides(plan_of: PlanOf) -> None:
    plan = plan_of(ALL + FIRST.replace("first", "first overrides all_queries")).plan
    assert plan.applyable
    assert {site.path: (site.target, site.settings["r"]) for site in plan.sites} == {
        "blocks.0.attn.to_q": ("first", 4),
        **{f"blocks.{i}.attn.to_q": ("all_queries", 2) for i in (1, 2, 3)},
    }


def test_overriding_passes_through(plan_of: PlanOf) -> None:
    last = FIRST.replace("first", "last overrides first")
    plan = plan_of(ALL + FIRST.replace("first", "first overrides all_queries") + last).plan
    assert [site.target for site in plan.sites] == ["last", *["all_queries"] * 3]


@pytest.mark.parametrize("train", ['path("blocks.0.attn")', 'path("blocks.0.attn.to_q")'])
def test_trained_and_adapted(plan_of: PlanOf, train: str) -> None:
    assert codes(plan_of(f"train {{ select {train} }}\n" + ALL)) == ["E0308"]
    assert plan_of(
        f'train {{ select {train} except path("blocks.0.attn.to_q") }}\n' + FIRST.replace("0.attn", "1.attn")
    ).plan


def test_tied_modules(plan_of: PlanOf) -> None:
    planned = plan_of('target t { select path("head") expect 1 lora { r = 2 } }')
    assert codes(planned) == ["E0307"]
    assert planned.diagnostics[0].notes == ("head shares storage with embed",)
    assert codes(plan_of('train { select path("head") }\n' + ALL)) == ["E0307"]
    together = plan_of('train { select path("head", "embed") }\n' + ALL).plan
    assert together.applyable
    assert together.totals.trained == 80
