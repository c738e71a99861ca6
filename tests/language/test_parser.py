"""Source text to syntax tree."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from surgery.diagnostics import Source, Span, SurgeryError
from surgery.language import tree
from surgery.language.parser import parse
from surgery.language.walking import children, walk

EXAMPLE = (Path(__file__).parent / "example.surg").read_text(encoding="utf-8")


def parsed(body: str) -> tree.Spec:
    return parse(Source("t.surg", "surg 1\n" + body))[0]


def statement(text: str) -> Any:
    (only,) = parsed(text).statements
    return only


def codes(text: str) -> list[str]:
    """The codes of the syntax errors of a text, in order."""
    with pytest.raises(SurgeryError) as error:
        parse(Source("t.surg", text))
    return [diagnostic.code for diagnostic in error.value.diagnostics]


def outline(node: Any, depth: int = 0) -> str:
    """A tree as indented lines: the sort of each node, its plain values, and the text it was read from."""
    plain = {
        name: value
        for name, value in vars(node).items()
        if not isinstance(value, (Span, tuple)) and not hasattr(value, "span") and value is not None
    }
    values = "".join(f" {name}={value!r}" for name, value in plain.items())
    first_line = node.span.text.partition("\n")[0]
    line = f"{'  ' * depth}{type(node).__name__}{values}  <- {first_line}\n"
    return line + "".join(outline(child, depth + 1) for child in children(node))


def test_the_example_of_the_language(golden: Callable[[str, str], None]) -> None:
    spec, found = parse(Source("example.surg", EXAMPLE))
    assert not list(found)
    golden("".join(outline(statement) for statement in spec.statements), "goldens/example.tree.txt")


def test_every_span_lies_in_its_parents() -> None:
    spec, _ = parse(Source("example.surg", EXAMPLE))
    for node in walk(spec):
        for child in children(node):
            assert node.span.start <= child.span.start <= child.span.end <= node.span.end, (node, child)


@pytest.mark.parametrize("name", ["model", "path", "kind", "target", "true", "select", "surg", "where", "B", "depth"])
def test_a_setting_may_be_called_as_a_keyword_is(name: str) -> None:
    model = statement(f"model m:C {{ a = 3 {name} = 4 }}")
    assert [(setting.name.name, setting.value.value) for setting in model.settings] == [("a", 3), (name, 4)]


@pytest.mark.parametrize("name", ["model", "target", "path", "param", "blocks"])
def test_a_let_may_be_called_as_a_statement_is(name: str) -> None:
    spec = parsed(f"let {name} = all\nlet x = inside({name}) | {name}\nnever {name}")
    assert all(node.name == name for node in walk(spec) if isinstance(node, tree.LetName))


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("16", 16),
        ("-3", -3),
        ("0.05", 0.05),
        ("1e-4", 1e-4),
        ("2.5E+3", 2500.0),
        ("true", True),
        ("false", False),
        ('"a \\"b\\" \\\\ \\n\\t"', 'a "b" \\ \n\t'),
    ],
)
def test_literals(text: str, value: object) -> None:
    literal = statement(f"param p: int = {text}").default
    assert literal.value == value
    assert type(literal.value) is type(value)


@pytest.mark.parametrize(
    ("text", "size"),
    [("512 B", 512), ("20 MB", 20_000_000), ("1.5kB", 1500), ("1 GB", 10**9), ("1KiB", 1024), ("2 GiB", 2**31)],
)
def test_sizes(text: str, size: int) -> None:
    assert statement(f"budget {{ adapter <= {text} }}").limits[0].value.bytes == size


@pytest.mark.parametrize(("text", "fraction"), [("1%", 0.01), ("0.5 %", 0.005), ("100%", 1.0)])
def test_shares(text: str, fraction: float) -> None:
    assert statement(f"budget {{ trainable < {text} }}").limits[0].value.fraction == pytest.approx(fraction)


def test_values_of_settings() -> None:
    model = statement(
        'model m:C { a = [1, [2], "x",]  b = t:Config { n = none }  c = t:AutoModel.from_config  d = json("c.json"), }'
    )
    a, b, c, d = (setting.value for setting in model.settings)
    assert [type(item).__name__ for item in a.items] == ["Number", "Items", "Text"]
    assert (b.callee.name, b.settings[0].name.name) == ("t:Config", "n")
    assert isinstance(b.settings[0].value, tree.Nothing)
    assert (c.module, c.attribute) == ("t", "AutoModel.from_config")
    assert d.path.value == "c.json"


def test_inputs_are_tensors_or_a_function() -> None:
    inputs = statement("inputs { x = i64[n, 2 * n] < 10  y = f32[] }")
    tensor, scalar = (setting.value for setting in inputs.settings)
    assert (tensor.dtype, len(tensor.shape), tensor.below.value) == ("i64", 2, 10)
    assert (scalar.dtype, scalar.shape, scalar.below) == ("f32", (), None)
    assert statement("inputs my.project:example").callee.name == "my.project:example"


@pytest.mark.parametrize("head", ["when a overrides b, c", "overrides b, c when a", "overrides b when a overrides c"])
def test_the_head_of_a_target_in_either_order(head: str) -> None:
    target = statement(f"target t {head} {{ select all lora {{ }} }}")
    assert target.when.name == "a"
    assert [word.name for word in target.overrides] == ["b", "c"]


def test_clauses_of_protections_in_either_order() -> None:
    one = statement('never all because "x" expect 3..4')
    two = statement('exclude all expect 3..4 because "x"')
    for clause in (one, two):
        assert clause.because.value == "x"
        assert (clause.expect.operator, clause.expect.low.value, clause.expect.high.value) == ("..", 3, 4)


def shape(node: tree.Set | tree.Expression) -> str:
    """An expression with all its brackets."""
    if isinstance(node, (tree.Combined, tree.Arithmetic, tree.Logic, tree.Comparison)):
        return f"({shape(node.left)} {node.operator} {shape(node.right)})"
    return f"not {shape(node.operand)}" if isinstance(node, tree.Not) else node.span.text


@pytest.mark.parametrize(
    ("text", "meaning"),
    [
        ("a | b & c - d", "(a | (b & (c - d)))"),
        ("a - b - c", "((a - b) - c)"),
        ("(a | b) & c", "((a | b) & c)"),
        ("a & b | c & d", "((a & b) | (c & d))"),
    ],
)
def test_set_operators_bind_as_in_python(text: str, meaning: str) -> None:
    assert shape(statement(f"never {text}").value) == meaning


@pytest.mark.parametrize(
    ("text", "meaning"),
    [
        ("a or b and not c", "(a or (b and not c))"),
        ("a + b * c - d / e", "((a + (b * c)) - (d / e))"),
        ("not a == b", "not (a == b)"),
        ("a + 1 >= b", "((a + 1) >= b)"),
    ],
)
def test_value_operators_bind_as_in_python(text: str, meaning: str) -> None:
    assert shape(statement(f"param p: bool = {text}").default) == meaning


def test_init_words_may_be_joined_by_a_bar() -> None:
    assert [word.name for word in statement("never init(zero | constant, random)").value.words] == [
        "zero",
        "constant",
        "random",
    ]


def test_slices() -> None:
    slices = statement("never index(all, 0:11, ::2, -4:, 3, -1)").value.slices
    assert [(s.start, s.stop, s.step, s.single) for s in slices] == [
        (0, 11, None, False),
        (None, None, 2, False),
        (-4, None, None, False),
        (3, None, None, True),
        (-1, None, None, True),
    ]


def test_all_syntax_errors_come_at_once_and_valid_statements_between_them_none() -> None:
    text = "surg 1\nlet a = \nlet b = all\nnever b because 3\ntarget t {\n  select b\n  lora { r 3 }\n}\n"
    text += "trane { select b }\n"
    with pytest.raises(SurgeryError) as error:
        parse(Source("t.surg", text))
    assert [d.span.line for d in error.value.diagnostics if d.span] == [2, 4, 7, 9]


def test_what_stands_between_the_edition_and_the_first_statement_is_reported() -> None:
    assert codes("surg 1 nonsense\nlet a = all") == ["E0001"]
    assert codes("surg 1\n  , \n") == ["E0001"]


@pytest.mark.parametrize("bracket", ["(", "[", "{", ")", "]", "}", "([{"])
def test_a_megabyte_of_brackets_is_refused_fast(bracket: str) -> None:
    start = time.process_time()
    assert set(codes("surg 1\nlet a = " + bracket * (1_000_000 // len(bracket)))) <= {"E0006", "E0008"}
    assert codes(bracket * 1_000_000) == ["E0003"]
    assert time.process_time() - start < 2


@pytest.mark.parametrize("text", ["not " * 2000 + "true", "- " * 2000 + "1", "1" + " + 1" * 2000])
def test_deep_expressions_are_refused_without_recursion_errors(text: str) -> None:
    assert codes(f"surg 1\nparam p: int = {text}") == ["E0008"]


def test_brackets_may_nest_as_far_as_anybody_reads() -> None:
    assert statement("param p: int = " + "[" * 60 + "]" * 60)


@pytest.mark.parametrize(
    "statement",
    [
        "param p: int = " + "9" * 5000,
        "param p: int = " + "9" * 20,
        "param p: float = 1e999",
        "budget { adapter <= " + "9" * 400 + " GB }",
        "budget { trainable <= 1e400% }",
    ],
)
def test_numbers_of_absurd_size_are_refused(statement: str) -> None:
    assert codes("surg 1\n" + statement) == ["E0001"]


@pytest.mark.parametrize(
    ("text", "marked", "help"),
    [
        ("lettuce = all", "lettuce", "did you mean `let`?"),
        ("lett a = all", "lett", "did you mean `let`?"),
        ("nevertied", "nevertied", "did you mean `never`?"),
        ("never all becauseof", "becauseof", "did you mean `because`?"),
        ("target a { selct all lora {} }", "selct", "did you mean `select`?"),
        ("target a { select all expct 3 lora {} }", "expct", "did you mean `expect`?"),
        ("budget { adapter <= 20 mb }", "mb", "the unit is written `MB`"),
    ],
)
def test_a_mistyped_word_is_marked_itself(text: str, marked: str, help: str) -> None:
    with pytest.raises(SurgeryError) as error:
        parsed(text)
    (found,) = error.value.diagnostics
    assert found.span
    assert (found.span.text, found.helps[0][: len(help)]) == (marked, help)


def test_large_numbers_are_numbers() -> None:
    assert statement("model m:C { a = -1e30 }").settings[0].value.value == -1e30


@pytest.mark.parametrize(
    ("text", "help"),
    [
        ("let a = kind(nn.Linear)", "without their package"),
        ("param a: float = .5", "start with a digit"),
        ("let é = all", "ASCII"),
        ("let a =\u00a0all", "ASCII"),
        ("param a: str = \u201cb", "double quotes"),
    ],
)
def test_a_character_out_of_place_has_a_way_out(text: str, help: str) -> None:
    with pytest.raises(SurgeryError) as error:
        parsed(text)
    assert help in error.value.diagnostics[0].helps[0]
