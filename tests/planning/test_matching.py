"""Globs on module trees, against a matcher that tries every path."""

from __future__ import annotations

import re
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from surgery.diagnostics import Diagnostic, Source, Span
from surgery.graph import Graph, Header, Module
from surgery.language.globs import Alternatives, AnyDepth, Glob, Literal, Segment, Slice, Wildcard, parse_glob
from surgery.planning.matching import ModuleTree

NAMES = ["a", "ab", "a_b", "b", "0", "1", "2", "10", "01", "x-y", "é"]
paths = st.lists(st.lists(st.sampled_from(NAMES), min_size=1, max_size=4), max_size=12)


def glob(text: str) -> Glob:
    source = Source("g.surg", f'"{text}"')
    return parse_glob(text, Span(source, 0, len(source.text)))


def complaints(tree: ModuleTree, parsed: Glob) -> list[Diagnostic]:
    return list(tree.complaints(parsed, tree.match(parsed)))


def graph_with(lists: list[list[str]]) -> Graph:
    """A graph with these paths and all that contain them, in an order in which parents come first."""
    found = {""} | {".".join(names[:length]) for names in lists for length in range(1, len(names) + 1)}
    return Graph(Header(), {path: Module(path, "Module", ()) for path in sorted(found)}, ())


segment_texts = st.recursive(
    st.sampled_from([*NAMES, "*", "**", "a*", "*b", "[0]", "[-1]", "[0:2]", "[::2]", "[1:]", "[::-1]"]),
    lambda inner: st.lists(st.lists(inner, min_size=1, max_size=2).map(".".join), min_size=1, max_size=3).map(
        lambda options: "{" + ",".join(options) + "}"
    ),
    max_leaves=4,
)
glob_texts = st.lists(segment_texts, min_size=1, max_size=4).map(".".join)


def plain(segments: tuple[Segment, ...]) -> list[tuple[Segment, ...]]:
    """Every sequence without alternatives that these segments stand for."""
    choices: list[list[tuple[Segment, ...]]] = []
    for segment in segments:
        if isinstance(segment, Alternatives):
            choices.append([sequence for option in segment.options for sequence in plain(option)])
        else:
            choices.append([(segment,)])
    return [sum(choice, ()) for choice in product(*choices)]


def naive(graph: Graph, path: str, segments: tuple[Segment, ...], parent: str = "") -> bool:
    """Whether the rest of a path, below `parent`, fits: by recursion on both."""
    if not segments:
        return not path
    first, rest = segments[0], segments[1:]
    if isinstance(first, AnyDepth) and naive(graph, path, rest, parent):
        return True
    if not path:
        return False
    name, _, below = path.partition(".")
    here = f"{parent}.{name}" if parent else name
    if isinstance(first, AnyDepth):
        return naive(graph, below, segments, here)
    if isinstance(first, Literal):
        fits = name == first.name
    elif isinstance(first, Wildcard):
        fits = re.fullmatch(".*".join(map(re.escape, first.pattern.split("*"))), name) is not None
    else:
        assert isinstance(first, Slice)
        prefix = f"{parent}." if parent else ""
        siblings = [p[len(prefix) :] for p in graph if p.startswith(prefix) and p != parent]
        numbers = sorted((s for s in siblings if re.fullmatch("[0-9]+", s)), key=int)
        fits = name in numbers[first.slice]
    return fits and naive(graph, below, rest, here)


@given(paths, glob_texts)
def test_walks_find_what_trying_every_path_finds(lists: list[list[str]], text: str) -> None:
    graph, parsed = graph_with(lists), glob(text)
    expected = {path for path in graph if path and any(naive(graph, path, s) for s in plain(parsed.segments))}
    assert ModuleTree(graph).match(parsed) == expected


@given(paths, glob_texts)
def test_complains_exactly_when_a_part_matches_nothing(lists: list[list[str]], text: str) -> None:
    graph, parsed = graph_with(lists), glob(text)
    found = complaints(ModuleTree(graph), parsed)
    tree = ModuleTree(graph)
    if not tree.match(parsed):
        assert [diagnostic.code for diagnostic in found] == ["E0201"]
    else:
        top = [(at, s) for at, s in enumerate(parsed.segments) if isinstance(s, Alternatives)]
        idle = sum(
            not tree.match(Glob(parsed.segments[:at] + option + parsed.segments[at + 1 :], "", parsed.span))
            for at, alternatives in top
            for option in alternatives.options
        )
        assert {diagnostic.code for diagnostic in found} <= {"E0202"}
        assert bool(idle) <= bool(found)


def test_many_overlapping_alternatives_stay_fast() -> None:
    graph = graph_with([["a"] * 12])
    parsed = glob(".".join(["{**,**}"] * 200))
    assert len(ModuleTree(graph).match(parsed)) == 12
    assert not complaints(ModuleTree(graph), parsed)


def test_a_typo_names_the_nearest_module() -> None:
    tree = ModuleTree(graph_with([["blocks", str(i), "attn", name] for i in range(3) for name in ("to_q", "to_k")]))
    (complaint,) = complaints(tree, glob("blocks.*.atn.to_q"))
    assert complaint.code == "E0201"
    assert complaint.helps == ("did you mean `attn`, as in blocks.0.attn.to_q?",)
    (complaint,) = complaints(tree, glob("**.to_p"))
    assert "`to_" in complaint.helps[0]


def test_an_alternative_is_pointed_at_itself() -> None:
    tree = ModuleTree(graph_with([["attn", "to_q"], ["attn", "to_k"]]))
    (complaint,) = complaints(tree, glob("attn.{to_q,to_kk}"))
    assert complaint.code == "E0202"
    assert complaint.span is not None
    assert complaint.span.text == "to_kk"
    assert complaint.helps == ("did you mean `to_k`, as in attn.to_k?",)


def test_a_slice_out_of_range_says_how_many_there_are() -> None:
    tree = ModuleTree(graph_with([["blocks", "0"], ["blocks", "1"]]))
    (complaint,) = complaints(tree, glob("blocks.[5:]"))
    assert complaint.helps == ("`blocks` has 2 numbered children, 0 to 1",)


@pytest.mark.parametrize("text", ["**", "*"])
def test_the_model_itself_is_no_match(text: str) -> None:
    assert ModuleTree(graph_with([["a"]])).match(glob(text)) == {"a"}
