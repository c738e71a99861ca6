"""On random trees with names that are hard: PEFT takes the planned parameters and no others, or the plan is refused."""

from __future__ import annotations

import json
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from hypothesis import event, given, settings
from hypothesis import strategies as st
from peft import LoraConfig, get_peft_model
from torch import nn

import surgery
from surgery.capturing.convert import modules_of
from surgery.diagnostics import Source
from surgery.graph import Graph, Header, Init
from surgery.inject.parameters import inexact, layers_by_site
from surgery.language import load_source
from surgery.methods.parameters import taken_by

NAMES = ("a", "b", "ab", "w", "base_layer", "base_layer_a", "0", "lora_A", "default")
parameters = st.dictionaries(st.sampled_from(("w", "v", "stack")), st.sampled_from(((2, 3), (2, 3, 2))), max_size=2)
trees = st.recursive(
    st.tuples(parameters, st.just({})),
    lambda inner: st.tuples(parameters, st.dictionaries(st.sampled_from(NAMES), inner, max_size=3)),
    max_leaves=8,
)


def built(tree: tuple[dict[str, tuple[int, ...]], dict[str, Any]]) -> nn.Module:
    own, inner = tree
    module = nn.Module()
    for name, child in inner.items():
        module.add_module(name, built(child))
    for name, shape in own.items():
        if name not in inner:
            module.register_parameter(name, nn.Parameter(torch.zeros(shape)))
    return module


@settings(max_examples=100, deadline=None)
@given(trees, st.data())
def test_peft_takes_what_is_said_of_it(tree: Any, data: st.DataObject) -> None:
    model = built(tree)
    held = [(path, name) for path, module in model.named_modules() for name in module._parameters if path]
    full = [f"{path}.{name}" for path, name in held]
    if not full:
        return
    targets = data.draw(st.lists(st.sampled_from(full), min_size=1, max_size=3, unique=True))
    said = sorted(taken_by(targets, held))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tuner = get_peft_model(model, LoraConfig(target_modules=[], target_parameters=targets, r=1)).base_model
    except (ValueError, AttributeError, KeyError):
        # What PEFT cannot wrap: a module inside a wrapped one, or the model itself, by a path without `base_layer`.
        outer = {path for path, _ in said}
        nested = any(path.startswith(f"{other}.") for path in outer for other in outer)
        nested |= any(f"{path}.base_layer" in dict(model.named_modules()) for path in outer)
        assert not said or nested or any("base_layer" in path for path, _ in said)
        return
    assert sorted(tuner.targeted_parameter_names) == sorted(
        f"{path.replace('.base_layer', '')}.{name}" for path, name in said
    )


def test_a_configuration_that_would_take_more_is_refused() -> None:
    model = built(({}, {"a": ({"w": (2, 3)}, {}), "b": ({}, {"a": ({"w": (2, 3)}, {})})}))
    config = LoraConfig(target_modules=[], target_parameters=["a.w"], r=1)
    [found] = inexact(model, config, [])
    assert found.code == "E0406"
    assert found.message == "PEFT would also adapt 2 parameters: a.w, b.a.w"


def as_graph(model: nn.Module) -> Graph:
    modules = modules_of(model, {}, lambda _: Init("random"))
    return Graph(Header(), {path: replace(module, calls=1) for path, module in modules.items()}, ())


def as_globs(paths: list[str], selector: str) -> str:
    return f"{selector}({', '.join(map(json.dumps, paths))})"


@settings(max_examples=150, deadline=None)
@given(trees, st.data())
def test_what_is_planned_is_adapted_and_what_cannot_be_is_refused_before(tree: Any, data: st.DataObject) -> None:
    model = built(tree)
    model.add_module("linear", nn.Linear(2, 2))
    graph = as_graph(model)
    held = [f"{path}.{p.name}" for path, module in graph.modules.items() if path for p in module.parameters]
    chosen = data.draw(
        st.lists(st.sampled_from([path for path in held if path != "linear.bias"]), min_size=1, unique=True)
    )
    select = as_globs(chosen, "param")
    if "linear.weight" not in chosen and data.draw(st.booleans()):
        select += ' | path("linear")'
    text = f"surg 1\ntarget t {{ select {select}  lora {{ r = 1 }} }}"
    plan = surgery.plan(load_source(Source("test.surg", text), Path("test.surg"), {}), graph)
    event(f"applyable: {plan.applyable}")
    if not plan.applyable:
        assert {f.code for f in plan.diagnostics if f.severity == "error"} == {"E0406"}
        return
    adapted = surgery.apply(model, plan)
    assert layers_by_site(adapted.get_base_model()).keys() == {site.full_path for site in plan.sites}
    assert len(plan.sites) == len(chosen) + select.endswith('path("linear")')
