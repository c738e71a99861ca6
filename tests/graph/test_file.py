"""The graph file: what is written is read back, and nothing else is."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from surgery.diagnostics import SurgeryError
from surgery.graph import Block, Fact, Graph, Header, Init, Module, Node, Parameter
from surgery.graph.file import read_graph, write_graph

F5 = Path(__file__).parents[2] / "specs" / "f5_tts" / "f5_base.graph.json"

names = st.text(st.characters(codec="utf-8", exclude_characters="."), min_size=1, max_size=5)
facts = st.builds(Fact, st.sampled_from(["yes", "no", "unknown"]), st.text(max_size=8))
inits = st.builds(Init, st.sampled_from(["zero", "constant", "random", "unknown"]), st.none() | names)
parameters = st.builds(
    Parameter,
    name=names,
    shape=st.lists(st.integers(0, 9), max_size=3).map(tuple),
    dtype=st.sampled_from(["float32", "bfloat16"]),
    init=inits,
    storage=st.integers(0, 6),
)


@st.composite
def graphs(draw: st.DrawFn) -> Graph:
    """Trees of modules with arbitrary names, facts and ops."""
    paths = [""]
    for name in draw(st.lists(names, max_size=8)):
        parent = draw(st.sampled_from(paths))
        path = f"{parent}.{name}" if parent else name
        if path not in paths:
            paths.append(path)
    modules = {}
    for path in paths:
        kind = draw(names)
        modules[path] = Module(
            path=path,
            kind=kind,
            bases=(kind, *draw(st.lists(names.filter(lambda n, kind=kind: n != kind), max_size=2))),
            parameters=tuple(draw(st.lists(parameters, max_size=3, unique_by=lambda p: p.name))),
            numbers=draw(st.dictionaries(names, st.integers(0, 99), max_size=2)),
            calls=draw(st.integers(0, 3)),
            unreached=draw(facts),
            bypassed=draw(facts),
            gradient=draw(facts),
            tied=tuple(draw(st.lists(names, max_size=2))),
            block=draw(st.none() | st.builds(Block, names, st.integers(0, 40))),
            roles=draw(st.dictionaries(st.sampled_from(["modulation", "norm"]), st.text(max_size=8))),
            unknown_roles=draw(st.dictionaries(st.sampled_from(["router"]), st.text(max_size=8))),
        )
    nodes = tuple(
        Node(
            index=index,
            op=draw(names),
            module=draw(st.sampled_from(paths)),
            inputs=tuple(draw(st.lists(st.integers(0, index - 1), max_size=3))) if index else (),
            arguments=tuple(draw(st.lists(st.integers() | st.text(max_size=4) | st.booleans(), max_size=3))),
            target=draw(st.text(max_size=5)),
            shape=tuple(draw(st.lists(st.integers(0, 9), max_size=3))),
            dtype=draw(st.sampled_from(["", "float32"])),
            place=draw(st.text(max_size=5)),
            cut=draw(st.booleans()),
        )
        for index in range(draw(st.integers(0, 6)))
    )
    return Graph(Header("pkg:Model", "a = 1", {"torch": "2"}, "x = f32[1]"), modules, nodes)


@given(graphs())
@settings(max_examples=150, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])
def test_a_graph_survives_its_file(tmp_path: Path, graph: Graph) -> None:
    path = tmp_path / "g.graph.json"
    write_graph(graph, path)
    again = read_graph(path)
    assert dict(again.modules) == dict(graph.modules)
    assert tuple(again.nodes) == graph.nodes
    assert again.header == graph.header
    assert again.fingerprint == graph.fingerprint
    json.loads(path.read_text(encoding="utf-8"))  # one JSON object, for those who read it otherwise


@given(cut=st.floats(0, 1, exclude_max=True))
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_cut_file_is_refused(tmp_path: Path, cut: float) -> None:
    text = F5.read_text(encoding="utf-8")
    path = tmp_path / "cut.graph.json"
    path.write_text(text[: int(cut * (len(text) - 2))], encoding="utf-8")
    with pytest.raises(SurgeryError) as raised:
        read_graph(path)
    assert [d.code for d in raised.value.diagnostics] == ["E0502"]


def test_an_edited_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "edited.graph.json"
    path.write_text(F5.read_text(encoding="utf-8").replace('"modulation"', '"norm"', 1), encoding="utf-8")
    with pytest.raises(SurgeryError, match="does not match its fingerprint"):
        read_graph(path)


def test_versions_do_not_enter_the_fingerprint() -> None:
    graph = read_graph(F5)
    assert Graph(Header(versions={"torch": "9"}), graph.modules, graph.nodes).fingerprint == graph.fingerprint


def test_line_ends_of_another_system_are_read(tmp_path: Path) -> None:
    path = tmp_path / "crlf.graph.json"
    path.write_bytes(F5.read_bytes().replace(b"\n", b"\r\n"))
    assert read_graph(path).fingerprint == read_graph(F5).fingerprint


def test_a_shared_storage_counts_once() -> None:
    weight = Parameter("weight", (4, 3), "float32", Init("random"), 0)
    modules = {path: Module(path, "Linear", ("Linear",), (weight,)) for path in ("a", "b")}
    assert Graph(Header(), {"": Module("", "M", ("M",)), **modules}, ()).parameters == 12
