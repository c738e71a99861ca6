"""A run as a torch.fx.Graph: what is called, where, and on what."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import pytest
import torch
from torch import nn

import surgery
from surgery.capturing.recorder import Recorder
from surgery.graph import Graph


def record(model: nn.Module, *args: Any) -> tuple[Recorder, Any]:
    recorder = Recorder({id(p): name for name, p in model.named_parameters()})
    recorder.inputs(args, {})
    with recorder.running(model), recorder:
        result = model(*args)
    recorder.output(result)
    return recorder, result


def ops(graph: Graph) -> list[str]:
    return [node.op for node in graph.nodes]


class Branching(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(4, 4)
        self.second = nn.Linear(4, 4)
        self.unused = nn.Linear(4, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for _ in range(x.shape[0]):  # what symbolic tracing cannot follow
            x = self.first(x)
        return self.second.forward(x).chunk(2, dim=-1)[0]


def test_the_result_is_a_valid_fx_graph() -> None:
    recorder, _ = record(Branching(), torch.randn(3, 4))
    recorder.graph.lint()
    kinds = [node.op for node in recorder.graph.nodes]
    assert (kinds[0], kinds[-1]) == ("placeholder", "output")


def test_the_recorded_graph_computes_what_the_model_did() -> None:
    model, x = Branching(), torch.randn(3, 4)
    recorder, result = record(model, x)
    again = torch.fx.GraphModule(model, recorder.graph)(x)
    assert torch.equal(again[0], result)


def test_calls_are_counted_as_modules_and_directly() -> None:
    recorder, _ = record(Branching(), torch.randn(3, 4))
    assert recorder.calls == {"": 1, "first": 3, "second": 1}


def test_nodes_carry_the_running_module_and_the_line() -> None:
    recorder, _ = record(Branching(), torch.randn(1, 4))
    linear = [n for n in recorder.graph.nodes if n.meta["name"] == "linear"]
    assert [n.meta["module"] for n in linear] == ["first", "second"]
    assert all("test_recorder.py:" in n.meta["place"] for n in linear)


def test_forward_is_put_back() -> None:
    model = Branching()
    model.first.forward = model.first.forward  # type: ignore[method-assign]  # one set on the instance stays
    mine = model.first.__dict__["forward"]
    record(model, torch.randn(1, 4))
    assert model.first.__dict__["forward"] is mine
    assert "forward" not in model.second.__dict__


def test_forward_is_put_back_after_an_error() -> None:
    model = Branching()
    with pytest.raises(RuntimeError):
        record(model, torch.randn(1, 5))
    assert "forward" not in model.first.__dict__


def test_writing_into_a_tensor_is_an_op_on_it() -> None:
    class Writes(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(4, 4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            out = torch.zeros(2, 8)
            out[:, :4] = self.linear(x)
            out[:, 4:].copy_(x)
            out += 1
            return out

    graph = surgery.capture(Writes(), (torch.randn(2, 4),))
    last = graph.nodes[-1]
    behind = {graph.nodes[i].op for i in _ancestors(graph, last.inputs[0])}
    assert {"linear", "setitem", "copy", "add"} <= behind


def test_an_op_that_returns_its_input_makes_no_node() -> None:
    class Nothing(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.to(torch.float32).contiguous()

    assert ops(surgery.capture(Nothing(), (torch.randn(2, 4),))) == ["input", "output"]


def test_nested_inputs_and_outputs_are_named_by_the_way_to_them() -> None:
    class Nested(nn.Module):
        def forward(self, pair: tuple[torch.Tensor, dict[str, torch.Tensor]], *, more: list[torch.Tensor]) -> Any:
            return OrderedDict(a=pair[0] + pair[1]["k"], b=[more[0]])

    x = torch.randn(2)
    graph = surgery.capture(Nested(), ((x, {"k": torch.randn(2)}),), {"more": [torch.randn(2)]})
    assert [n.target for n in graph.nodes if n.op == "input"] == ["0.0", "0.1.k", "more.0"]
    assert len(graph.nodes[-1].inputs) == 2


def test_gradients_are_seen_to_be_cut() -> None:
    class Cut(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.frozen, self.open = nn.Linear(2, 2), nn.Linear(2, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            with torch.no_grad():
                x = self.frozen(x)
            return self.open(x.detach())

    graph = surgery.capture(Cut(), (torch.randn(1, 2),))
    assert graph["frozen"].gradient.answer == "no"
    assert graph["open"].gradient.answer == "yes"


def _ancestors(graph: Graph, node: int) -> set[int]:
    found, waiting = set(), [node]
    while waiting:
        current = waiting.pop()
        if current not in found:
            found.add(current)
            waiting.extend(graph.nodes[current].inputs)
    return found
