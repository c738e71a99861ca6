"""An exported program as a graph: in-place ops, regions, several calls, and the model afterwards."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

import surgery
from surgery.capturing.exported import capture_exported
from surgery.graph import Graph, Node


class Halves(nn.Module):
    """Linears on an input of (2, 3, 8), in the order in which the models below use them."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(8, 8)
        self.second = nn.Linear(8, 4)


class WritesPart(Halves):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.first(x)
        late = y[..., 2:]
        y[..., :4] = self.second(x)
        return late.relu()


class Overwrites(Halves):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.second(self.first(x))
        y.copy_(x[..., :4])
        return y.add_(1)


class WithoutGradient(Halves):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
            x = self.first(x)
        return self.second(x.float())


class Batches(Halves):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.vmap(lambda row: self.second(self.first(row)).mul_(2))(x)


class RescalesItsWeight(Halves):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            self.first.weight.div_(2)
        return self.first(x)


class SharedByTwo(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.here = nn.ModuleDict({"inner": nn.Linear(8, 8)})
        self.there = nn.ModuleDict({"inner": self.here["inner"]})

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.there["inner"](self.here["inner"](x))


class Nested(nn.Module):
    def forward(self, pair: list[torch.Tensor], more: dict[str, Any]) -> Any:
        return {"sum": pair[0] + pair[1], "scaled": more["x"] * more["scale"], "number": 3}


class CountsCalls(Halves):
    def __init__(self) -> None:
        super().__init__()
        self.cache: dict[str, torch.Tensor] = {}
        self.dropout = nn.Dropout(0.5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.cache["x"] = self.first(x)
        self.last = self.cache["x"]
        return self.dropout(self.last)


def exported(model: nn.Module) -> Graph:
    return capture_exported(model, (torch.randn(2, 3, 8),))


def only(graph: Graph, op: str) -> Node:
    (node,) = [node for node in graph.nodes if node.op == op]
    return node


def reaches_output(graph: Graph, module: str) -> bool:
    """Whether the result of a module's linear flows into what the model returns."""
    waiting = list(only(graph, "output").inputs)
    while waiting:
        node = graph.nodes[waiting.pop()]
        if node.op == "linear" and node.module == module:
            return True
        waiting.extend(node.inputs)
    return False


def test_a_view_taken_before_a_write_shows_what_was_written() -> None:
    graph = exported(WritesPart())
    assert reaches_output(graph, "first")
    assert reaches_output(graph, "second")
    assert only(graph, "setitem").shape == (2, 3, 8)
    assert only(graph, "relu").shape == (2, 3, 6)


def test_nothing_is_left_of_what_is_overwritten() -> None:
    graph = exported(Overwrites())
    assert not reaches_output(graph, "second")
    assert only(graph, "add").inputs == (only(graph, "copy").index,)


def test_regions_without_gradient_and_with_autocast_stand_in_line() -> None:
    graph = exported(WithoutGradient())
    first, second = (node for node in graph.nodes if node.op == "linear")
    assert (first.module, first.cut, first.dtype) == ("first", True, "bfloat16")
    assert (second.module, second.cut, second.dtype) == ("second", False, "float32")
    assert graph["first"].gradient.answer == "no"
    assert graph["second"].gradient.answer == "yes"


def test_a_function_under_vmap_stands_in_line() -> None:
    graph = exported(Batches())
    assert only(graph, "mul").shape == (3, 4)
    assert reaches_output(graph, "first")
    assert graph["first"].gradient.answer == "yes"


def test_a_weight_that_is_rescaled_in_place_is_still_the_weight() -> None:
    graph = exported(RescalesItsWeight())
    assert graph["first"].bypassed.answer == "no"
    assert graph["first"].gradient.answer == "yes"


def test_a_module_of_two_parents_is_known_by_its_first_path() -> None:
    graph = exported(SharedByTwo())
    assert [node.module for node in graph.nodes if node.op == "linear"] == ["here.inner"] * 2
    assert graph["here.inner"].calls == 2
    assert graph["here.inner"].tied == ("there.inner",)


def test_a_module_called_twice_is_counted_twice() -> None:
    linear = nn.Linear(8, 8)
    graph = exported(nn.Sequential(linear, nn.ReLU(), linear))
    assert {path: module.calls for path, module in graph.modules.items()} == {"": 1, "0": 2, "1": 1}


def test_inputs_and_places_are_those_of_the_recorded_run() -> None:
    arguments = {"pair": [torch.randn(2), torch.randn(2)], "more": {"x": torch.randn(2), "scale": torch.randn(1)}}
    graphs = [take(Nested(), (), arguments) for take in (surgery.capture, capture_exported)]
    read = [[(node.op, node.target, node.place) for node in graph.nodes] for graph in graphs]
    assert read[0] == read[1]
    assert len([op for op, *_ in read[1] if op == "input"]) == 4


def test_a_size_that_depends_on_values_is_zero() -> None:
    class Picks(Halves):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.first(x)[x[..., 0] > 0]

    assert only(exported(Picks()), "getitem").shape == (0, 8)


@pytest.mark.filterwarnings("ignore:The tensor attribute")  # export says what is then taken back
def test_the_model_is_left_as_it_was() -> None:
    model = CountsCalls()
    weights = list(model.parameters())
    exported(model)
    assert model.training
    assert model.dropout.training
    assert not hasattr(model, "last")
    assert model.cache == {}
    assert all(one is other for one, other in zip(model.parameters(), weights, strict=True))


def test_what_export_refuses_is_raised() -> None:
    class Branches(Halves):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.first(x) if x.sum() > 0 else self.second(x)

    model = Branches()
    with pytest.raises(Exception, match="data-dependent"):
        exported(model)
    assert model.training
