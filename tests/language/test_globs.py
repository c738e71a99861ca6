"""Globs over module paths."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from surgery.diagnostics import Source, Span, SurgeryError
from surgery.language.globs import Alternatives, AnyDepth, Glob, Literal, Segment, Slice, Wildcard, join, parse_glob


def glob(text: str) -> Glob:
    quoted = f'"{text}"'
    return parse_glob(text, Span(Source("t.surg", quoted), 0, len(quoted)))


def read(text: str) -> Glob | list[str]:
    """The glob, or the codes it is refused with."""
    try:
        return glob(text)
    except SurgeryError as error:
        return [diagnostic.code for diagnostic in error.diagnostics]


@pytest.mark.parametrize(
    ("text", "segments"),
    [
        ("proj_out", (Literal("proj_out"),)),
        ("blocks.*", (Literal("blocks"), Wildcard("*"))),
        ("**.to_*", (AnyDepth(), Wildcard("to_*"))),
        ("a.[0:11]", (Literal("a"), Slice(0, 11, None))),
        ("[::2].x", (Slice(None, None, 2), Literal("x"))),
        ("[-4:]", (Slice(-4, None, None),)),
        ("[3]", (Slice(3, 4, None),)),
        ("[-1]", (Slice(-1, None, None),)),
        ("{a,b.0}", (Alternatives(((Literal("a"),), (Literal("b"), Literal("0")))),)),
        ("{q,k}_proj", (Alternatives(((Literal("q_proj"),), (Literal("k_proj"),))),)),
        ("x{,_y}", (Alternatives(((Literal("x"),), (Literal("x_y"),))),)),
        ("{a,{b,c}}", (Alternatives(((Literal("a"),), (Alternatives(((Literal("b"),), (Literal("c"),))),))),)),
        ("{**.a,[0:2]}", (Alternatives(((AnyDepth(), Literal("a")), (Slice(0, 2, None),))),)),
    ],
)
def test_segments(text: str, segments: tuple[Segment, ...]) -> None:
    assert glob(text).segments == segments


@pytest.mark.parametrize(
    ("text", "marked"),
    [
        ("", '"'),
        ("a..b", "."),
        (".a", "."),
        ("a.", '"'),
        ("{a,}", "}"),
        ("{a", "{"),
        ("a}", "}"),
        ("a,b", ","),
        ("a b", " "),
        ("a?", "?"),
        ("blocks[0:2]", "["),
        ("[]", "[]"),
        ("[x]", "[x]"),
        ("[0:2:0]", "[0:2:0]"),
        ("**a", "**a"),
        ("a.***", "***"),
        ("{a,b}" * 11, "{a,b}" * 11),
        ("{" * 17 + "a" + "}" * 17, "{"),
    ],
)
def test_malformed_globs_are_marked_where_they_are_wrong(text: str, marked: str) -> None:
    with pytest.raises(SurgeryError) as error:
        glob(text)
    (found,) = error.value.diagnostics
    assert found.code == "E0009"
    assert found.span
    assert found.span.text == marked
    assert found.helps


def test_alternatives_know_where_they_stand() -> None:
    (_, alternatives) = glob("**.{to_q,to_out.0}").segments
    assert isinstance(alternatives, Alternatives)
    assert [span.text for span in alternatives.spans] == ["to_q", "to_out.0"]


@pytest.mark.parametrize(
    ("pattern", "name", "fits"),
    [
        ("*", "x", True),
        ("to_*", "to_", True),
        ("to_*", "xto_q", False),
        ("*_proj", "q_proj", True),
        ("a*b*c", "aXbc", True),
    ],
)
def test_wildcards(pattern: str, name: str, fits: bool) -> None:
    assert Wildcard(pattern).fits(name) is fits


bounds = st.one_of(st.none(), st.integers(-99, 99))
segments = st.recursive(
    st.one_of(
        st.from_regex(r"[a-z_][a-z0-9_]{0,4}", fullmatch=True).map(Literal),
        st.sampled_from(["*", "to_*", "*_x", "a*b"]).map(Wildcard),
        st.just(AnyDepth()),
        st.builds(Slice, bounds, bounds, st.one_of(st.none(), st.integers(1, 5))),
    ),
    lambda inner: st.lists(st.lists(inner, min_size=1, max_size=3).map(tuple), min_size=1, max_size=3).map(
        lambda options: Alternatives(tuple(options))
    ),
    max_leaves=6,
)


@settings(max_examples=80, deadline=None)
@given(st.lists(segments, min_size=1, max_size=5).map(tuple))
def test_what_is_written_is_read_again(written: tuple[Segment, ...]) -> None:
    assert glob(join(written)).segments == written


@settings(max_examples=200, deadline=None)
@given(st.text(alphabet="ab0_.*{},[]:-? ", max_size=30))
def test_any_text_is_a_glob_or_refused(text: str) -> None:
    parsed = read(text)
    if isinstance(parsed, Glob):
        assert glob(join(parsed.segments)).segments == parsed.segments
    else:
        assert parsed == ["E0009"]
