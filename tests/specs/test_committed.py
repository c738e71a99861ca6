"""Every spec under specs/ with its graph and lock: formatted, captured from today's packages, and accepted."""

from __future__ import annotations

from pathlib import Path

import pytest

import surgery
from surgery.cli.main import main

SPECS = sorted((Path(__file__).parents[2] / "specs").glob("*/*.surg"))
IDS = [path.stem for path in SPECS]


@pytest.mark.parametrize("path", SPECS, ids=IDS)
def test_formatted_and_locked(path: Path) -> None:
    assert main(["fmt", "--check", str(path)]) == 0
    assert main(["check", str(path)]) == 0
    assert main(["plan", str(path)]) == 0  # no change against the lock


@pytest.mark.heavy
@pytest.mark.parametrize("path", SPECS, ids=IDS)
def test_captured_again_it_is_the_same(path: Path, update_goldens: bool) -> None:
    from surgery.capturing import capture_spec

    spec = surgery.load(path)
    graph = capture_spec(spec)
    if update_goldens:
        graph.save(spec.graph_path)
    committed = surgery.read_graph(spec.graph_path)
    assert dict(graph.modules) == dict(committed.modules)
    assert graph.fingerprint == committed.fingerprint
    assert graph.header == committed.header
    assert spec.graph_path.stat().st_size < 300_000
