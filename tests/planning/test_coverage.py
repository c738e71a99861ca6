"""The share of each role that a plan adapts or trains; the reference's example of parameters."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

from mixture_graph import EXPERTS, HIDDEN, WIDTH, mixture

import surgery
from surgery.graph import Graph
from surgery.language import LoadedSpec
from surgery.planning.planner import Planned, make_plan
from surgery.planning.view import render_plan

ROOT = Path(__file__).parents[2]


def shares(found: Planned) -> dict[str, tuple[int, int]]:
    return {one.role: (one.touched, one.parameters) for one in found.plan.roles}


def test_part_of_the_fused_experts(spec_of: Callable[..., LoadedSpec]) -> None:
    text = """
    target t { select param("layers.[0:2].**.down_proj")  lora { r = 2 } }
    train { select path("layers.0.mlp.gate") }
    """
    found = make_plan(spec_of(text), mixture())
    matrix = EXPERTS * WIDTH * HIDDEN
    assert shares(found) == {
        "feedforward_out": (2 * matrix, 3 * matrix),
        "router": (EXPERTS * WIDTH, 3 * EXPERTS * WIDTH),
    }
    assert f"    feedforward_out  66.67 %  of {3 * matrix:,} parameters" in render_plan(found.plan, None)


def test_a_module_that_is_adapted_counts_without_its_bias(toy: Graph, spec_of: Callable[..., LoadedSpec]) -> None:
    text = (
        'target t { select path("blocks.[0:1].attn.to_{q,k}")  lora { r = 2 } }\ntrain { select path("blocks.*.norm") }'
    )
    found = make_plan(spec_of(text), toy)
    assert shares(found) == {"attention_query": (64, 256), "attention_key": (64, 256), "norm": (32, 32)}


def test_the_example_of_the_reference_on_a_real_mixture(spec_of: Callable[..., LoadedSpec]) -> None:
    reference = (ROOT / "grammar" / "README.md").read_text(encoding="utf-8")
    section = reference.partition("### Parameters\n")[2].partition("### ")[0]
    text = section.partition("```surg\nsurg 1\n")[2].partition("```")[0]
    graph = surgery.read_graph(ROOT / "specs" / "qwen3_moe" / "qwen3_30b_a3b.graph.json")
    plan = make_plan(spec_of(text), graph).plan
    assert plan.applyable
    assert Counter(site.target for site in plan.sites) == {"experts_in": 24, "experts_out": 36}
    assert len(plan.never[0].covers) == 48
