"""Patterns over the keys of a checkpoint: what fits, what the stars stand for, and how a key is written anew."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from surgery.diagnostics import Source, Span
from surgery.language import tree
from surgery.language.key_patterns import KeyPattern, parse_key_pattern, parse_rename


def text(value: str) -> tree.Text:
    quoted = f'"{value}"'
    return tree.Text(value, Span(Source("t", quoted), 0, len(quoted)))


def pattern(value: str) -> KeyPattern:
    return parse_key_pattern(text(value))


@pytest.mark.parametrize(
    ("written", "key", "stars"),
    [
        ("step", "step", ()),
        ("step", "steps", None),
        ("step", "step.count", None),
        ("module.**", "module.proj.weight", ("proj.weight",)),
        ("module.**", "module", ("",)),
        ("module.**", "modules.proj", None),
        ("**", "a.b", ("a.b",)),
        ("**.weight", "a.b.weight", ("a.b",)),
        ("**.weight", "a.weight.b", None),
        ("h.*.attn.to_*.weight", "h.11.attn.to_q.weight", ("11", "q")),
        ("h.*.weight", "h.weight", None),
        ("a.**.b.*", "a.b.b.c", ("b", "c")),
        ("*_proj.*.**", "k_proj.0", ("k", "0", "")),
        ("**.rotary.**", "a.rotary.b", ("a", "b")),
    ],
)
def test_match(written: str, key: str, stars: tuple[str, ...] | None) -> None:
    assert pattern(written).match(key) == stars


@pytest.mark.parametrize(
    ("theirs", "ours", "key", "name"),
    [
        ("ema_model.transformer.**", "**", "ema_model.transformer.proj_out.bias", "proj_out.bias"),
        ("**", "base.model.**", "proj.bias", "base.model.proj.bias"),
        ("h.*.**", "blocks.*.**", "h.3.mlp.w", "blocks.3.mlp.w"),
        ("h.*.w_*", "blocks.*.to_*.weight", "h.3.w_q", "blocks.3.to_q.weight"),
        ("table", "embed.weight", "table", "embed.weight"),
        ("a.**.b", "**", "a.b", None),  # no name would be left
        ("a.**", "**", "b.c", None),
    ],
)
def test_rename(theirs: str, ours: str, key: str, name: str | None) -> None:
    written = tree.Rename(text(theirs), text(ours), text(theirs).span)
    assert parse_rename(written).of(key) == name


@pytest.mark.parametrize(
    ("written", "start"), [("a.b.**", "a.b"), ("a.b_*.c", "a"), ("**.a", ""), ("step", "step"), ("a.b", "a.b")]
)
def test_start(written: str, start: str) -> None:
    assert pattern(written).start == start


names = st.sampled_from(["a", "b", "to_q", "0", "12", "weight"])
stars = st.sampled_from(["*", "to_*", "**"])


@given(st.lists(st.one_of(names, stars), min_size=1, max_size=6), st.lists(names, min_size=1, max_size=6))
def test_a_key_that_fits_is_its_pattern_with_the_stars_filled_in(segments: list[str], key: list[str]) -> None:
    parsed = pattern(".".join(segments))
    found = parsed.match(".".join(key))
    assert found is None or parsed.fill(found) == ".".join(key)
    assert len(parsed.stars) == sum("*" in segment for segment in segments)
    if not parsed.stars:
        assert (found is not None) == (segments == key)
