"""The toy model as a file, for the reject corpus."""

from __future__ import annotations

from pathlib import Path

from surgery.graph import Graph
from surgery.graph.file import read_graph, write_graph


def test_the_committed_file_is_the_toy_model(toy: Graph, update_goldens: bool) -> None:
    file = Path(__file__).parent / "toy.graph.json"
    if update_goldens:
        write_graph(toy, file)
    saved = read_graph(file)
    assert saved.modules == toy.modules
    assert saved.fingerprint == toy.fingerprint
