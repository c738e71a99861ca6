"""The share of each role that a plan adapts or trains."""

from __future__ import annotations

from collections.abc import Callable

from mixture_graph import EXPERTS, HIDDEN, WIDTH, mixture

from surgery.graph import Graph
from surgery.language import LoadedSpec
from surgery.planning.planner import Planned, make_plan
from surgery.planning.view import render_plan


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
