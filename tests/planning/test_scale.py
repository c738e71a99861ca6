"""Planning stays linear: 50,000 modules in seconds."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

from surgery.graph import Block, Graph, Header, Init, Module, Parameter
from surgery.language import LoadedSpec
from surgery.planning.changes import compare
from surgery.planning.lock import lock_of
from surgery.planning.planner import make_plan
from surgery.planning.view import render_plan

LAYERS, EXPERTS = 128, 96

SPEC = """
let layers = path("layers.*") expect 128
let linear = kind(Linear) & inside(layers)
never init(zero) because "zero outputs"
never inside(path("layers.[-1:]")) - linear
exclude index(linear, 0:2) because "the first layers"
target experts {
  select linear & path("**.{w1,w2}") & where(in_features >= 8) - containing(tied)
  expect 2 * 96 * (count(layers) - 2)
  lora { r = 4  alpha = 4 }
}
target gates { select path("layers.*.gate")  expect 126  loha { r = 2  alpha = 2 } }
"""


def large() -> Iterator[Module]:
    yield Module("", "Model", ("Model",))
    yield Module("layers", "ModuleList", ("ModuleList",))
    storage = 0
    for layer in range(LAYERS):
        block = Block("layers.*", layer)
        yield Module(f"layers.{layer}", "Layer", ("Layer",), block=block)
        yield Module(f"layers.{layer}.experts", "ModuleList", ("ModuleList",), block=block)
        experts = [f"layers.{layer}.experts.{expert}" for expert in range(EXPERTS)]
        yield from (Module(path, "Expert", ("Expert",), block=block) for path in experts)
        linears = [f"{path}.{name}" for path in experts for name in ("w1", "w2", "w3")]
        for path in [*linears, f"layers.{layer}.gate"]:
            storage += 1
            init = Init("zero" if path.endswith("w3") else "random", "model.py:10")
            weight = Parameter("weight", (8, 8), "float32", init, storage)
            yield Module(path, "Linear", ("Linear",), (weight,), {"in_features": 8}, calls=1, block=block)


def test_fifty_thousand_modules(spec_of: Callable[..., LoadedSpec]) -> None:
    graph = Graph(Header(), {module.path: module for module in large()}, ())
    assert len(graph) > 49_000
    graph.__dict__["fingerprint"] = "sha256:0"  # as read from a file, not computed
    start = time.process_time()
    plan = make_plan(spec_of(SPEC), graph).plan
    planned = time.process_time() - start
    text = render_plan(plan, compare(plan, lock_of(plan)))
    seconds = time.process_time() - start
    assert plan.applyable, plan.diagnostics
    assert len(plan.sites) == 2 * EXPERTS * 126 + 126
    assert "layers.[2:128].experts.[0:96].{w1,w2}  24,192 sites" in text
    print(f"{planned:.2f} s to plan {len(graph):,} modules, {seconds - planned:.2f} s to compare and render")
    assert planned < 4, "measured at 1.3 s on a 2-core machine"


def test_twenty_thousand_parameters(spec_of: Callable[..., LoadedSpec]) -> None:
    graph = Graph(Header(), {module.path: module for module in large()}, ())
    graph.__dict__["fingerprint"] = "sha256:0"
    start = time.process_time()
    spec = spec_of('target t { select param("**.{w1,w2}.weight") & inside(path("layers.*"))  lora { r = 4 } }')
    plan = make_plan(spec, graph).plan
    seconds = time.process_time() - start
    assert plan.applyable, plan.diagnostics
    assert len(plan.sites) == 2 * EXPERTS * LAYERS
    assert seconds < 20, f"{seconds:.1f} s"  # some 2 s; work that grows with the square takes minutes
