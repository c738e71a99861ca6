"""Graph, Module and Fact as data."""

from __future__ import annotations

import pytest

from surgery.graph import Fact, Graph, Header, Module, is_inside


def test_a_fact_has_no_truth_value() -> None:
    with pytest.raises(TypeError, match="yes, no or unknown"):
        bool(Fact("unknown"))


def test_inside_is_by_segments() -> None:
    assert is_inside("blocks.1.attn", "blocks.1")
    assert not is_inside("blocks.10", "blocks.1")
    assert not is_inside("blocks.1", "blocks.1")
    assert is_inside("blocks", "")


def test_children_of_every_module() -> None:
    paths = ["", "a", "a.0", "a.1", "b"]
    graph = Graph(Header(), {path: Module(path, "M", ("M",)) for path in paths}, ())
    assert graph.children == {"": ("a", "b"), "a": ("a.0", "a.1"), "a.0": (), "a.1": (), "b": ()}
