"""Whole plans on the toy model: what is adapted, trained, excluded, and which diagnostics come."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from surgery.diagnostics import Diagnostic
from surgery.graph import Graph, Header
from surgery.language import LoadedSpec
from surgery.planning.planner import Planned, make_plan

PlanOf = Callable[..., Planned]
QUERIES = 'target queries { select path("blocks.*.attn.to_q")  expect 4  lora { r = 2 alpha = 2 } }'


def codes(planned: Planned) -> list[str]:
    return [diagnostic.code for diagnostic in planned.diagnostics]


def the(planned: Planned, code: str) -> Diagnostic:
    (diagnostic,) = [diagnostic for diagnostic in planned.diagnostics if diagnostic.code == code]
    return diagnostic


def test_a_plain_plan_is_exact(plan_of: PlanOf) -> None:
    planned = plan_of(QUERIES)
    plan = planned.plan
    assert plan.applyable
    assert codes(planned) == []
    assert [site.path for site in plan.sites] == [f"blocks.{i}.attn.to_q" for i in range(4)]
    assert [site.added for site in plan.sites] == [2 * 8 + 8 * 2] * 4
    assert [(adapter.name, adapter.sites, adapter.added) for adapter in plan.adapters] == [("default", 4, 128)]
    assert (plan.totals.added, plan.totals.trainable, plan.totals.adapter_bytes) == (128, 128, 512)


def test_shared_storage_counts_once(plan_of: PlanOf) -> None:
    per_block = 16 + 7 * 64  # a norm, and seven linears of 8 by 8
    assert plan_of(QUERIES).plan.totals.total == 4 * per_block + 80 + 9 * 64


def test_sites_are_in_the_order_of_the_model(plan_of: PlanOf, toy: Graph) -> None:
    plan = plan_of(
        'target b { select path("blocks.*.ff.0") expect 4 lora { r = 2 } }\n'
        'target a { select path("blocks.*.attn.to_k") expect 4 lora { r = 4 } }'
    ).plan
    order = list(toy)
    assert [site.path for site in plan.sites] == sorted((site.path for site in plan.sites), key=order.index)


def test_adapters_are_named_where_their_settings_part_them(plan_of: PlanOf) -> None:
    plan = plan_of(
        QUERIES + '\ntarget keys { select path("blocks.*.attn.to_k") expect 4 lora { r = 4  alpha = 8 } }\n'
        'target values { select path("blocks.*.attn.to_v") expect 4 lora { r = 2  dropout = 0.5 } }\n'
        'target ff { select path("blocks.*.ff.0") expect 4 loha { r = 2  alpha = 2 } }'
    ).plan
    assert [(adapter.name, adapter.method, adapter.sites) for adapter in plan.adapters] == [
        ("queries", "lora", 8),
        ("values", "lora", 4),
        ("ff", "loha", 4),
    ]
    assert {site.target: site.adapter for site in plan.sites}["keys"] == "queries"


def test_exclusions_are_listed_with_reasons(plan_of: PlanOf) -> None:
    plan = plan_of(
        'exclude path("blocks.[0:2].**") because "they hold pitch"\n'
        'target queries { select path("blocks.*.attn.to_q") except path("blocks.3.**") expect 1 lora { r = 2 } }'
    ).plan
    assert [site.path for site in plan.sites] == ["blocks.2.attn.to_q"]
    assert [(taken.path, taken.because) for taken in plan.excluded] == [
        ("blocks.0.attn.to_q", "they hold pitch"),
        ("blocks.1.attn.to_q", "they hold pitch"),
        ("blocks.3.attn.to_q", ""),
    ]


def test_a_target_that_is_off_is_shown(plan_of: PlanOf) -> None:
    text = (
        "param deep: bool = true\n" + QUERIES + "\n" + QUERIES.replace("queries", "more when deep").replace("_q", "_k")
    )
    assert len(plan_of(text).plan.sites) == 8
    plan = plan_of(text, deep=False).plan
    assert len(plan.sites) == 4
    assert [(off.target, off.when) for off in plan.switched_off] == [("more", "deep")]
    assert plan.params == {"deep": False}


def test_all_targets_off_gets_a_lint(plan_of: PlanOf) -> None:
    assert codes(plan_of("param on: bool = false\n" + QUERIES.replace("queries", "queries when on"))) == ["W0907"]


def test_training_takes_what_lies_inside(plan_of: PlanOf) -> None:
    planned = plan_of('train { select path("blocks.0.ff") except path("blocks.0.ff.2") }\n' + QUERIES)
    assert planned.plan.trained == ["blocks.0.ff.0"]
    assert planned.plan.totals.trained == 64
    assert planned.plan.totals.trainable == 64 + 128


def test_checkpointing_takes_every_nth(plan_of: PlanOf) -> None:
    plan = plan_of('checkpoint path("blocks.*") { every = 2 }\n' + QUERIES).plan
    assert plan.checkpointed == ["blocks.0", "blocks.2"]


@pytest.mark.parametrize(
    ("chosen", "code", "label"),
    [
        ("kind(Linear) & role(norm)", "E0201", "each part matches something, but nothing matches all of them"),
        ("role(modulation)", "E0205", "may select doubtful"),
        ('path("unused", "blocks.0")', "E0306", "selects unused"),
    ],
)
def test_what_cannot_be_checkpointed(plan_of: PlanOf, chosen: str, code: str, label: str) -> None:
    assert the(plan_of(f"checkpoint {chosen} {{ every = 2 }}"), code).label == label


def test_training_what_has_no_parameters_is_no_silent_nothing(plan_of: PlanOf) -> None:
    assert the(plan_of('train { select path("blocks.*.ff.1") }'), "E0201").message == "`train` selects no parameter"
    assert plan_of('train { select path("blocks.*.ff") }').plan.applyable


def test_a_target_that_selects_nothing(plan_of: PlanOf) -> None:
    planned = plan_of("target t { select kind(Embedding) & role(conditioning)  lora { r = 2 } }")
    assert "selects nothing" in the(planned, "E0201").message
    assert not planned.plan.applyable


def test_a_target_left_empty_by_exclusions(plan_of: PlanOf) -> None:
    planned = plan_of('exclude path("time")\ntarget t { select path("time")  lora { r = 2 } }')
    assert "nothing left" in the(planned, "E0201").message
    assert plan_of('exclude path("time")\ntarget t { select path("time") expect 0 lora { r = 2 } }').plan.applyable


def test_an_exclusion_of_modules_around_those_of_a_target_is_no_silent_nothing(plan_of: PlanOf) -> None:
    text = QUERIES.replace("expect 4", 'except path("blocks.[0:2]")  expect 4')
    found = the(plan_of(text), "W0905")
    assert found.label == "has blocks.0, blocks.1"
    assert 'inside(path("blocks.[0:2]"))' in found.helps[0]
    assert the(plan_of('exclude path("blocks.0")\n' + QUERIES), "W0905").label == "has blocks.0"
    for useful in ('inside(path("blocks.[0:2]"))', "role(modulation)", "all"):
        planned = plan_of(f"exclude {useful}\n" + QUERIES)
        assert "W0905" not in [diagnostic.code for diagnostic in planned.diagnostics]


def test_a_choice_in_doubt_is_an_error(plan_of: PlanOf) -> None:
    text = "target t { select kind(Linear) & role(modulation)  expect 4  lora { r = 2 } }"
    found = the(plan_of(text), "E0205")
    assert found.label == "may select doubtful"
    assert found.notes == ("doubtful: role modulation: its product with the stream is not traced; toy.py:60",)
    assert plan_of('assume role(modulation) = path("doubtful")\n' + text.replace("4", "5")).plan.applyable


def test_count_differs_and_the_uneven_blocks_are_named(plan_of: PlanOf) -> None:
    found = the(plan_of('target t { select path("blocks.[1:].attn.to_q") expect 4 lora { r = 2 } }'), "E0203")
    assert found.message == "target `t` has 3 modules, not the 4 expected"
    assert found.notes == ("blocks.* (4 blocks): 1 in blocks 1 to 3; none in block 0",)


def test_exclusions_explain_a_count(plan_of: PlanOf) -> None:
    found = the(plan_of('exclude path("blocks.0.**")\n' + QUERIES), "E0203")
    assert found.notes[-1] == '`path("blocks.0.**")` at toy.surg:2 took 1 module'


def test_a_typo_in_a_let_is_reported_once(plan_of: PlanOf) -> None:
    text = 'let queries = path("blocks.*.attn.to_qq")\n' + QUERIES.replace(
        'path("blocks.*.attn.to_q")', "queries & all"
    )
    assert codes(plan_of(text)) == ["E0201"]
    assert codes(plan_of(text + "\nnever queries")) == ["E0201"]


@pytest.mark.parametrize(
    "text",
    [
        'let queries = path("blocks.*.to_qq") expect 4',
        'never path("blocks.*.to_qq") expect 4',
        'exclude path("blocks.*.to_qq") expect 4',
        'never all expect count(path("blocks.*.to_qq"))',
        'target t { select path("blocks.*.attn.*") except path("blocks.*.attn.to_qq") expect 4 lora { r = 2 } }',
    ],
)
def test_a_count_that_a_typo_makes_wrong_is_no_error_of_its_own(plan_of: PlanOf, text: str) -> None:
    assert codes(plan_of(text)).count("E0201") == 1
    assert "E0203" not in codes(plan_of(text))


@pytest.mark.parametrize(
    ("expect", "fits"),
    [("4", True), ("3..4", True), (">= 5", False), ("< 4", False), ("2 * count(tied)", True), ("5..9", False)],
)
def test_expectations(plan_of: PlanOf, expect: str, fits: bool) -> None:
    assert plan_of(QUERIES.replace("expect 4", f"expect {expect}")).plan.applyable is fits


def test_lets_and_protections_are_counted_too(plan_of: PlanOf) -> None:
    assert "E0203" in codes(plan_of('let blocks = path("blocks.*") expect 5\n' + QUERIES))
    assert "E0203" in codes(plan_of("never role(conditioning) expect 2\n" + QUERIES))


def test_a_target_without_expect_or_lock_gets_a_lint(plan_of: PlanOf, spec_of: Callable[..., LoadedSpec]) -> None:
    text = QUERIES.replace("expect 4", "")
    found = the(plan_of(text), "W0901")
    assert found.helps[0].startswith("add `expect 4`")
    spec_of(text).lock_path.write_text("{}")
    assert codes(plan_of(text)) == []


def test_method_errors_are_collected_with_the_others(plan_of: PlanOf) -> None:
    planned = plan_of(
        'target a { select path("time")  expect 2  lorra { r = 2 } }\n'
        'target b { select path("proj_out")  expect 1  lora { r = 2  dropuot = 0.1 } }'
    )
    assert {"E0203", "E0401", "E0402"} <= set(codes(planned))
    assert planned.plan.sites == []


def test_what_a_method_refuses_is_one_error(plan_of: PlanOf) -> None:
    found = the(plan_of('target t { select path("blocks.*.norm") expect 4 lora { r = 2 } }'), "E0404")
    assert found.message.startswith("lora cannot adapt 4 modules of target `t`: ")


def test_advice_comes_once_a_target(plan_of: PlanOf) -> None:
    found = the(plan_of(QUERIES.replace("alpha = 2", "alpha = 64")), "W0903")
    assert found.notes[0].startswith("4 modules")


def test_budgets(plan_of: PlanOf) -> None:
    share = plan_of("budget { trainable <= 50% }\n" + QUERIES).plan
    assert share.applyable
    assert [(limit.unit, limit.actual) for limit in share.budget] == [("share", share.totals.share)]
    plan = plan_of("budget { trainable <= 128  adapter < 1 MB }\n" + QUERIES).plan
    assert plan.applyable
    assert [(limit.unit, limit.actual) for limit in plan.budget] == [("parameters", 128), ("bytes", 512)]
    found = the(plan_of("budget { trainable < 128 }\n" + QUERIES), "E0303")
    assert found.notes == ("target `queries` adds 128 parameters",)
    assert found.message.endswith("would come to 128 parameters, and the budget is < 128 parameters")
    assert found.label == "the plan has 128 of 2,512 parameters"


def test_the_graph_of_another_model_is_refused(toy: Graph, spec_of: Callable[..., LoadedSpec]) -> None:
    spec = spec_of("param depth: int = 4\nmodel toy:Toy { depth = depth }\n" + QUERIES)
    fitting = replace(toy, header=Header(model="toy:Toy", settings="depth = 4"))
    assert make_plan(spec, fitting).plan.applyable
    assert make_plan(spec, toy).plan.applyable  # captured from a live model
    for header in (Header(model="toy:Other", settings="depth = 4"), Header(model="toy:Toy", settings="depth = 8")):
        planned = make_plan(spec, replace(toy, header=header))
        assert codes(planned) == ["E0503"]
        assert planned.plan.sites == []
