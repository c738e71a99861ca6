"""`never` is an invariant of the plan: whatever touches what it covers is an error."""

from __future__ import annotations

from collections.abc import Callable

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from surgery.diagnostics import Diagnostic
from surgery.graph import Graph
from surgery.planning.planner import Planned

PlanOf = Callable[..., Planned]


def errors(planned: Planned) -> list[Diagnostic]:
    return [diagnostic for diagnostic in planned.diagnostics if diagnostic.is_error]


def target(select: str, expect: int) -> str:
    return f"target t {{ select {select}  expect {expect}  lora {{ r = 2  alpha = 2 }} }}\n"


def test_a_protection_says_what_it_covers_and_why(plan_of: PlanOf) -> None:
    plan = plan_of('never role(modulation) - path("doubtful") because "gates"\n' + target('path("time")', 1)).plan
    (guard,) = plan.never
    assert plan.applyable
    assert (guard.selector, guard.because) == ('role(modulation) - path("doubtful")', "gates")
    assert guard.covers == [f"blocks.{i}.mod" for i in range(4)]
    assert guard.evidence["blocks.1.mod"] == (
        "modulation: silu(`time`) -> linear -> mul(`blocks.1.norm`); toy.py:30; weight starts as zero (toy.py:20)"
    )


def test_touching_it_shows_both_places_and_the_evidence(plan_of: PlanOf) -> None:
    planned = plan_of("never init(zero)\n" + target('path("blocks.*.mod")', 4))
    (found,) = errors(planned)
    assert (found.code, found.message) == ("E0301", "target `t` adapts 4 protected modules")
    assert found.span is not None
    assert found.span.text == 'path("blocks.*.mod")'
    assert [label.span.text for label in found.labels] == ["init(zero)"]
    assert found.notes == (
        "weight starts as zero (toy.py:20)\n4 modules: blocks.0.mod, blocks.1.mod, blocks.2.mod, blocks.3.mod",
    )
    assert found.helps == ("take them out with `except init(zero)`",)
    assert not planned.plan.applyable


def test_the_help_works(plan_of: PlanOf) -> None:
    select = 'path("blocks.*.{mod,ff.0}") except role(modulation)'
    assert plan_of("never role(modulation)\n" + target(select, 4)).plan.applyable


def test_it_never_subtracts(plan_of: PlanOf) -> None:
    planned = plan_of("never init(zero)\n" + target('path("blocks.*.{mod,ff.0}")', 8))
    assert len(planned.plan.sites) == 8
    assert [diagnostic.code for diagnostic in errors(planned)] == ["E0301"]


def test_training_what_contains_it_touches_it(plan_of: PlanOf) -> None:
    (found,) = errors(
        plan_of('never path("blocks.0.ff.2")\ntrain { select path("blocks.0.ff") }\n' + target("tied", 2))
    )[:1]
    assert (found.code, found.message) == ("E0301", "`train` trains 1 protected module")


def test_adapting_what_contains_it_touches_it(plan_of: PlanOf) -> None:
    found = errors(plan_of("never bypassed\n" + target('path("mha")', 1)))
    assert found[0].code == "E0301"
    assert found[0].notes == ("mha contains mha.out_proj",)


def test_what_shares_its_storage_is_touched_with_it(plan_of: PlanOf) -> None:
    codes = [diagnostic.code for diagnostic in errors(plan_of('never path("embed")\n' + target('path("head")', 1)))]
    assert codes == ["E0307", "E0307"]  # shared with what is protected, and shared at all


def test_a_container_stands_for_what_is_inside(plan_of: PlanOf) -> None:
    planned = plan_of('never path("blocks.0.attn")\n' + target('path("blocks.*.attn.to_q")', 4))
    assert [diagnostic.code for diagnostic in errors(planned)] == ["E0301"]
    assert "blocks.0.attn.to_q" in planned.plan.never[0].covers
    assert "blocks.0.attn.to_q" in plan_of("never kind(Attention)\n" + target('path("time")', 1)).plan.never[0].covers
    assert plan_of('never path("blocks.*") - path("blocks.0")\n' + target('path("blocks.1.ff.0")', 1)).plan.applyable
    assert plan_of('never all - path("**.to_q")\n' + target('path("blocks.*.attn.to_q")', 4)).plan.applyable


def test_an_unknown_fact_is_an_error_until_it_is_vouched_for(plan_of: PlanOf) -> None:
    text = "never init(zero)\n" + target('path("loaded")', 1)
    (found,) = errors(plan_of(text))
    assert found.code == "E0304"
    assert found.notes == ("loaded: init zero: it is not known how weight started",)
    assert [d.code for d in errors(plan_of('assume init(zero) = path("loaded")\n' + text))] == ["E0301"]
    vouched = plan_of('assume init(zero) = path("proj_out") because "read in toy.py"\n' + text).plan
    assert vouched.applyable
    assert [(a.fact, a.covers, a.because) for a in vouched.assumed] == [("init(zero)", ["proj_out"], "read in toy.py")]


def test_an_unknown_fact_of_an_untouched_module_is_none_of_the_plans_business(plan_of: PlanOf) -> None:
    assert plan_of("never init(zero)\n" + target('path("time")', 1)).plan.applyable


def test_covering_nothing_is_a_lint(plan_of: PlanOf) -> None:
    assert [d.code for d in plan_of("never role(router)\n" + target('path("time")', 1)).diagnostics] == ["W0905"]
    assert not plan_of("never role(router) expect 0\n" + target('path("time")', 1)).diagnostics


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=40)
@given(st.data())
def test_an_applyable_plan_touches_nothing_protected(toy: Graph, plan_of: PlanOf, data: st.DataObject) -> None:
    paths = st.lists(st.sampled_from([path for path in toy if path]), min_size=1, max_size=4, unique=True)
    guarded, chosen, trained = ("path(" + ", ".join(f'"{path}"' for path in data.draw(paths)) + ")" for _ in range(3))
    adapt = f"target t {{ select {chosen} & kind(Linear)  lora {{ r = 1 }} }}"
    plan = plan_of(f"never {guarded}\n{adapt}\ntrain {{ select {trained} }}").plan
    covered = {path for guard in plan.never for path in guard.covers}
    touched = {site.path for site in plan.sites} | set(plan.trained)
    storages = {p.storage for path in covered for p in toy[path].parameters}
    shared = any(p.storage in storages for path in touched for p in toy[path].parameters)
    assert not (plan.applyable and (touched & covered or shared))
