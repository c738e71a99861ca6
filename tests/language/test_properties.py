"""Properties of reading and formatting, on generated and on damaged files."""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from surgery.diagnostics import Source, Span, SurgeryError
from surgery.files import decode_text
from surgery.language import format_text, load_source
from surgery.language.parser import parse
from surgery.language.tokens import pieces

EXAMPLE = (Path(__file__).parent / "example.surg").read_text(encoding="utf-8")

FEW = settings(max_examples=40, deadline=None)

# --- generated files: lists of tokens, joined below by random blanks, line breaks and comments

Tokens = list[str]
names = st.sampled_from(["a", "b", "blocks", "linear", "rank", "model", "target", "path", "x1"])
words = st.sampled_from(["modulation", "conditioning", "norm", "router"])
strings = st.sampled_from(['"blocks.*"', '"**.{to_q,to_out.0}"', '"a.[0:2].b"', '"say \\"so\\""', '"# no comment"'])
numbers = st.one_of(
    st.integers(0, 10**6).map(str), st.sampled_from(["0.05", "1e-4", "20 MB", "3kB", "1.5 GiB", "1%", "0.5 %"])
)


def joined(*parts: Any) -> st.SearchStrategy[Tokens]:
    """Parts in a row: tokens, and strategies of tokens or of lists of tokens."""
    strategies = [part if isinstance(part, st.SearchStrategy) else st.just(part) for part in parts]
    return st.tuples(*strategies).map(
        lambda found: [token for part in found for token in ([part] if isinstance(part, str) else part)]
    )


def separated(item: st.SearchStrategy[Tokens], separator: str, least: int = 1) -> st.SearchStrategy[Tokens]:
    return st.lists(item, min_size=least, max_size=3).map(
        lambda items: [token for at, item in enumerate(items) for token in ([separator] if at else []) + item]
    )


def extend_values(inner: st.SearchStrategy[Tokens]) -> st.SearchStrategy[Tokens]:
    return st.one_of(
        joined(inner, st.sampled_from(["+", "-", "*", "/", "and", "or"]), inner),
        joined("(", inner, st.sampled_from(["==", "!=", "<", ">="]), inner, ")"),
        joined("(", "not", inner, ")"),
        joined("-", "(", inner, ")"),
        joined("[", separated(inner, ",", 0), "]"),
    )


literals = st.one_of(numbers, strings, names, st.sampled_from(["true", "false", "none", "-3"]))
values = st.recursive(joined(literals), extend_values, max_leaves=4)
globs = joined("path", "(", separated(joined(strings), ","), st.sampled_from([[], [","]]), ")")


def extend_sets(inner: st.SearchStrategy[Tokens]) -> st.SearchStrategy[Tokens]:
    return st.one_of(
        joined(inner, st.sampled_from(["|", "&", "-"]), inner),
        joined("(", inner, ")"),
        joined(st.sampled_from(["inside", "containing", "feeds", "reached_by"]), "(", inner, ")"),
        joined("index", "(", inner, ",", st.sampled_from(["0:11", "::2", "-4:", "3"]), ")"),
    )


base_sets = st.one_of(
    joined(names),
    globs,
    joined("role", "(", separated(joined(words), ","), ")"),
    joined("kind", "(", "Linear", ")"),
    joined("where", "(", names, ">=", numbers, ")"),
    joined(st.sampled_from(["tied", "bypassed", "unreached", "all"])),
)
sets = st.recursive(base_sets, extend_sets, max_leaves=4)
expects = joined("expect", st.one_of(joined(numbers), joined(">=", "4"), joined("66", "..", "88"), joined(names)))
because = joined("because", strings)
tensors = joined("f32", "[", separated(joined(numbers), ",", 0), "]", st.sampled_from([[], ["<", "10"]]))
objects = joined("pkg.mod:Name", "{", "n", "=", values, "}")
blocks = st.lists(
    joined(names, "=", st.one_of(values, tensors, objects, joined("pkg:make.it")), st.sampled_from([[], [","]])),
    max_size=4,
).map(lambda items: ["{", *(token for item in items for token in item), "}"])
parts = st.permutations(
    [["select", "all"], ["except", "tied"], ["expect", "3"], ["lora", "{", "r", "=", "8", "}"]]
).map(lambda items: ["{", *(token for item in items for token in item), "}"])
renames = joined(st.sampled_from(['"a.**"', '"b.*"']), "->", st.sampled_from(['"**"', '"c.*"']))
ignores = joined("ignore", separated(joined(strings), ","), st.one_of(because, st.just([])))
statements = st.one_of(
    joined("param", names, ":", "int", "=", values),
    joined("graph", strings),
    joined("model", "pkg.mod:Name", st.one_of(blocks, st.just([]))),
    joined("inputs", st.one_of(blocks, joined("pkg.mod:make"))),
    joined(
        "weights", "{", separated(st.one_of(renames, ignores), "", 0).map(lambda tokens: [*filter(None, tokens)]), "}"
    ),
    joined("let", names, "=", sets, st.one_of(expects, st.just([]))),
    joined(st.sampled_from(["never", "exclude"]), sets, st.one_of(because, expects, joined(because, expects))),
    joined("assume", "init", "(", "zero", ")", "=", sets, because),
    joined("target", names, st.one_of(st.just([]), joined("when", values), joined("overrides", names)), parts),
    joined("train", "{", "select", sets, "}"),
    joined("checkpoint", sets, blocks),
    joined("budget", "{", "trainable", "<=", "1%", "adapter", "<", "20 MB", "}"),
)
blanks = st.sampled_from([" "] * 6 + ["  ", "\n", "\n\n\n", "\t", " # a note\n", "\n# one\n\n#two\n", " #\n"])


@st.composite
def files(draw: st.DrawFn) -> str:
    text = draw(st.sampled_from(["", "# head\n\n"])) + "surg 1"
    for statement in draw(st.lists(statements, max_size=4)):
        text += draw(st.sampled_from(["\n", "\n\n\n", " # end\n", "\n# between\n"]))
        text += statement[0] + "".join(draw(blanks) + token for token in statement[1:])
    return text + draw(st.sampled_from(["", "\n", "  # last", "\n\n\n"]))


def without_spans(node: Any) -> Any:
    """A tree as nested tuples, without the places it was read from."""
    if isinstance(node, tuple):
        return tuple(map(without_spans, node))
    if not is_dataclass(node):
        return node
    kept = [getattr(node, field.name) for field in fields(node) if not isinstance(getattr(node, field.name), Span)]
    return (type(node).__name__, *map(without_spans, kept))


def comments(text: str) -> list[str]:
    return [
        comment
        for piece in pieces(Source("t", text))
        for comment in [*(above.text for above in piece.comments), *([piece.trailing] if piece.trailing else [])]
    ]


@FEW
@given(files())
def test_formatting_keeps_meaning_and_comments_and_is_stable(text: str) -> None:
    before, _ = parse(Source("before", text))
    formatted = format_text(Source("before", text))
    after, _ = parse(Source("after", formatted))
    assert without_spans(before) == without_spans(after)
    assert sorted(comments(text)) == sorted(comments(formatted))
    assert format_text(Source("after", formatted)) == formatted
    assert not any(line != line.rstrip() for line in formatted.split("\n"))


def refusal(text: str) -> SurgeryError | None:
    """Why a text is refused, if it is. Nothing else may be raised."""
    try:
        load_source(Source("t.surg", text), Path("t.surg"), {})
    except SurgeryError as error:
        return error
    return None


def read(text: str) -> None:
    """Load a text: whatever is refused comes with a printable reason and a way out."""
    refused = refusal(text)
    if refused:
        assert str(refused)
        assert refused.diagnostics
        assert all(diagnostic.helps for diagnostic in refused.diagnostics)


@FEW
@given(st.text(max_size=200))
def test_any_text_is_read_or_refused(text: str) -> None:
    read(text)
    read("surg 1\n" + text)


@FEW
@given(st.text(alphabet="abz_ 019.:=<>|&-+*/()[]{}\"'#%,\n\\", max_size=60))
def test_any_text_of_the_languages_characters_is_read_or_refused(text: str) -> None:
    read("surg 1\nlet a = " + text)


cuts = st.tuples(st.integers(0, len(EXAMPLE)), st.integers(0, 40), st.text(max_size=5))


@FEW
@given(st.lists(cuts, min_size=1, max_size=3))
def test_a_damaged_file_is_read_or_refused(damage: list[tuple[int, int, str]]) -> None:
    text = EXAMPLE
    for start, length, inserted in damage:
        text = text[:start] + inserted + text[start + length :]
    read(text)


@FEW
@given(files())
def test_a_generated_file_is_loaded_or_refused(text: str) -> None:
    read(text)


@FEW
@given(st.binary(max_size=100))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    try:
        text = decode_text(data, "t.surg")
    except SurgeryError as error:
        codes = [diagnostic.code for diagnostic in error.diagnostics]
    else:
        codes = []
        read(text)
    assert codes in ([], ["E0002"])
