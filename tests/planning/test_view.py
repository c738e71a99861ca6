"""Plans as people read them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

import surgery
from surgery.graph import Graph
from surgery.graph.file import read_graph
from surgery.language import LoadedSpec
from surgery.planning.changes import compare
from surgery.planning.explain import explain
from surgery.planning.lock import lock_of
from surgery.planning.planner import Planned
from surgery.planning.view import render_plan, summary

PlanOf = Callable[..., Planned]
SPECS = Path(__file__).parents[2] / "specs"
Golden = Callable[[str, str], None]

TEXT = """
param rank: int = 2
param deep: bool = false
never role(modulation) because "gates"
never role(conditioning)
assume role(modulation) = path("loaded") - all because "seen in toy.py"
exclude path("blocks.0.**") because "pitch"
target queries { select path("blocks.*.attn.to_{q,k}") except path("blocks.3.attn.to_k") expect 5 lora { r = rank } }
target ff { select path("blocks.*.ff.{0,2}") expect 6 loha { r = rank  alpha = 1 } }
target more when deep { select path("experts.0") expect 1 lora { r = rank } }
train { select path("proj_out") }
checkpoint path("blocks.*") { every = 2 }
budget { trainable <= 50%  adapter <= 1 MB }
"""


def test_a_line_of_the_plan_says_how_large_an_adapter_is_by_default(plan_of: PlanOf) -> None:
    """Nothing else says it; and a method without a factor on its update has no scale to show."""
    text = 'target t { select path("blocks.*.attn.to_q") expect 4 boft {} }'
    assert "Linear 8x8  boft block_size=4  +" in render_plan(plan_of(text).plan, None)
    text = 'target t { select path("blocks.*.attn.to_q") expect 4 oft { block_size = 4 } }'
    assert "Linear 8x8  oft block_size=4  +" in render_plan(plan_of(text).plan, None)


def test_what_sites_share_is_no_module(plan_of: PlanOf) -> None:
    text = 'target t { select path("blocks.*.attn.to_q") expect 4 unilora { theta_d_length = 32 } }'
    lines = render_plan(plan_of(text).plan, None).splitlines()
    assert "  + (shared by 4 sites)" in [line.partition("   ")[0] for line in lines]


def test_a_plan_with_everything(plan_of: PlanOf, golden: Golden) -> None:
    plan = plan_of(TEXT).plan
    assert plan.applyable
    golden(render_plan(plan, None), "goldens/everything.txt")


def test_the_difference_from_the_lock(plan_of: PlanOf, golden: Golden) -> None:
    before, after = plan_of(TEXT).plan, plan_of(TEXT.replace("blocks.0.**", "blocks.1.**"), rank=3, deep=True).plan
    golden(render_plan(after, compare(after, lock_of(before))), "goldens/changes.txt")
    assert summary(before, compare(before, lock_of(before))).endswith("No change against the lock.")


def test_colour_changes_nothing_but_the_colour(plan_of: PlanOf) -> None:
    plan = plan_of(TEXT).plan
    coloured = render_plan(plan, None, colour=True)
    assert "\x1b[32m" in coloured
    for code in ("0", "1", "2", "31", "32", "33"):
        coloured = coloured.replace(f"\x1b[{code}m", "")
    assert coloured == render_plan(plan, None)


def test_it_is_made_from_the_plans_file_alone(plan_of: PlanOf) -> None:
    plan = plan_of(TEXT).plan
    again = surgery.Plan.model_validate_json(plan.model_dump_json())
    assert render_plan(again, None) == render_plan(plan, None)


def test_explanations(plan_of: PlanOf, toy: Graph, golden: Golden) -> None:
    plan = plan_of(TEXT).plan
    paths = ["blocks.2.attn.to_q", "blocks.3.attn.to_k", "blocks.0.mod", "blocks.0", "proj_out", "head", "experts.1"]
    golden("\n".join(explain(plan, toy, path) for path in [*paths, "doubtful", ""]), "goldens/explain.txt")


def test_f5_tts(golden: Golden, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(SPECS)  # places show the path as it was given
    spec: LoadedSpec = surgery.load("f5_tts/f5_base.surg")
    plan = surgery.plan(spec, read_graph(spec.graph_path))
    golden(render_plan(plan, compare(plan, lock_of(plan))), "goldens/f5_base.txt")


def test_what_is_saved_beside_the_parameters_is_in_the_totals(plan_of: PlanOf) -> None:
    text = 'target t {{ select path("blocks.*.attn.to_q") expect 4 vera {{ r = 4  save_projection = {} }} }}'
    assert "and besides, of vera" in render_plan(plan_of(text.format("true")).plan, None)
    assert "and besides" not in render_plan(plan_of(text.format("false")).plan, None)
