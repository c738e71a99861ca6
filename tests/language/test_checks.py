"""Names, types and settings: what is refused, where the carets stand, and what is not refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from surgery.diagnostics import Diagnostic, Source, SurgeryError
from surgery.language import load_source


def findings(body: str) -> tuple[Diagnostic, ...]:
    try:
        return load_source(Source("t.surg", "surg 1\n" + body), Path("t.surg"), {}).diagnostics
    except SurgeryError as error:
        return error.diagnostics


@pytest.mark.parametrize(
    ("body", "code", "marked"),
    [
        ("never blocks", "E0101", "blocks"),
        ("never inside(index(blocks, 3))", "E0101", "blocks"),
        ("never all expect 4 * count(blocks)", "E0101", "blocks"),
        ("never all expect n..9", "E0101", "n"),
        ("never where(width > 3)", "E0101", "width"),
        ("model m:C { a = [1, [n]] }", "E0101", "n"),
        ("model m:C { a = t:D { b = n } }", "E0101", "n"),
        ("inputs { x = f32[2, n] }", "E0101", "n"),
        ("budget { trainable <= n }", "E0101", "n"),
        ("target a when on { select all lora {} }", "E0101", "on"),
        ("target a overrides b { select all lora {} }", "E0101", "b"),
        ("never init(zero | zeros)", "E0103", "zeros"),
        ("model m:C { a = q4[2] }", "E0103", "q4"),
        ("model m:C { a = 1 a = 2 }", "E0104", "a"),
        ("model m:C { b = t:D { a = 1 a = 2 } }", "E0104", "a"),
        ("budget { adapter <= 1 MB adapter <= 2 MB }", "E0104", "adapter"),
        ("inputs m:a inputs m:b", "E0104", "inputs m:b"),
        ("target a { select all lora {} loha {} }", "E0104", "loha {}"),
        ("target a when true when false { select all lora {} }", "E0104", "when false"),
        ('never all because "x" because "y"', "E0104", 'because "y"'),
        ("never all expect true", "E0105", "true"),
        ("never all expect 1 MB", "E0105", "1 MB"),
        ("never where(out_features)", "E0105", "out_features"),
        ('never where(out_features == "x")', "E0105", 'out_features == "x"'),
        ("never where(count(all) > 3)", "E0105", "count(all)"),
        ("target a when 1 + 2 { select all lora {} }", "E0105", "1 + 2"),
        ("target a when not 3 { select all lora {} }", "E0105", "3"),
        ('target a when true and "x" { select all lora {} }', "E0105", '"x"'),
        ('model m:C { a = "x" < 3 }', "E0105", '"x"'),
        ("model m:C { a = -true }", "E0105", "true"),
        ("model m:C { a = count(all) }", "E0105", "count(all)"),
        ("param n: int = count(all) never all expect n", "E0105", "count(all)"),
        ("inputs { x = f32[true] }", "E0105", "true"),
        ("inputs { x = i64[2] < 0 }", "E0105", "0"),
        ("checkpoint all { every = 1.5 }", "E0105", "1.5"),
        ("checkpoint all { every = true }", "E0105", "true"),
        ("budget { trainable <= 0.01 }", "E0105", "0.01"),
        ("budget { trainable <= -1 }", "E0105", "-1"),
        ("param on: bool = true budget { trainable <= on }", "E0105", "on"),
        ("target a { select all lora { r = 1 MB } }", "E0105", "1 MB"),
        ("target a { select all lora { r = m:C } }", "E0105", "m:C"),
        ("let a = all let b = " + "a | " * 100 + "a let c = " + "b | " * 100 + "b never c", "E0008", "c"),
        ("let a0 = all " + " ".join(f"let a{i + 1} = a{i}" for i in range(2000)) + " never a2000", "E0008", "a149"),
        ("never index(all, 0:4:0)", "E0105", "0:4:0"),
        ("never index(all, all)", "E0105", "all"),
        ("never path(all)", "E0105", "all"),
        ('never path("a") & path("b..c")', "E0009", "."),
        ('weights { ignore "a..b" }', "E0009", "."),
        ('weights { ignore "{a,b}" }', "E0009", '"{a,b}"'),
        ('weights { "a.[0:3]" -> "b" }', "E0009", '"a.[0:3]"'),
        ('weights { "**.a.**" -> "**" }', "E0009", '"**.a.**"'),
        ('weights { "a*b*" -> "c*d*" }', "E0009", '"a*b*"'),
        ('weights { "a.**" -> "*" }', "E0009", '"*"'),
        ('weights { "*.**" -> "**.*" }', "E0009", '"**.*"'),
        ('weights { "a" -> "**" }', "E0009", '"**"'),
        ("weights {}", "E0107", "weights {}"),
        ('weights { "a" -> "b" "a" -> "c" }', "E0104", '"a"'),
        ('weights { ignore "a" } weights { ignore "b" }', "E0104", 'weights { ignore "b" }'),
    ],
)
def test_refused(body: str, code: str, marked: str) -> None:
    found = [diagnostic for diagnostic in findings(body) if diagnostic.is_error]
    assert [diagnostic.code for diagnostic in found] == [code]
    assert found[0].span
    assert found[0].span.text == marked
    assert found[0].helps


@pytest.mark.parametrize(
    "body",
    [
        "",
        "let a = b\nlet b = all\nnever a",
        "param n: int = 3\nnever all expect >= n + 1",
        "param n: float = 3\nmodel m:C { a = [n, -n, n / 2] }",
        "never where(parameters > 0 and not (kernel_size == 1 or groups != stride))",
        "param groups: int = 2\nnever where(out_features > 3 * groups)\nmodel m:C { a = groups }",
        'param groups: str = "a"\ntarget a when groups == "a" { select where(groups > 1) lora {} }',
        "param on: bool = true\ntarget a when on == true { select all lora {} }",
        "target a { select all lora {} }\ntarget b overrides a { select all lora {} }",
        "param n: int = 3000000\nbudget { trainable <= n  adapter < 1.5 GiB }",
        "param n: int = 3000000\nbudget { trainable <= n * 2 }",
        "param n: float = 3e6\nbudget { trainable <= n }",
        'inputs { x = f32[]  n = 3  s = "x"  items = [f32[2], none] }',
        "checkpoint all {}",
        'param s: str = "a"\nmodel m:C { a = s == none  b = s != "x" }',
        'assume tied = path("a")\nassume role(norm) = path("b")',
    ],
)
def test_not_refused(body: str) -> None:
    assert findings(body) == ()


@pytest.mark.parametrize(
    ("body", "unused"),
    [
        ("param rank: int = 3", ["rank"]),
        ("let a = all\nlet b = a", ["b"]),
        ("param rank: int = 3\nparam alpha: int = rank", ["alpha"]),
    ],
)
def test_unused_definitions(body: str, unused: list[str]) -> None:
    assert [diagnostic.span.text for diagnostic in findings(body) if diagnostic.span] == unused


def test_every_error_of_a_file_is_found_in_the_order_of_the_file() -> None:
    body = (
        'never role(nrom)\nlet a = b\nnever a expect "3"\ncheckpoint a { evry = 2 }\nnever path("x..y")\nlet a = all\n'
    )
    assert [diagnostic.code for diagnostic in findings(body)] == ["E0103", "E0101", "E0105", "E0106", "E0009", "E0104"]


@pytest.mark.parametrize(
    ("body", "help"),
    [
        ("let blocks = all\nnever inside(block)\nnever blocks", "did you mean `blocks`?"),
        ("param rank: int = 3\nmodel m:C { a = rnak  b = rank }", "did you mean `rank`?"),
        ("model m:C { a = True }", "did you mean `true`?"),
        ("never role(Modulation)", "did you mean `modulation`?"),
        ('never paths("a")', "did you mean `path`?"),
        ("param rank: integer = 3\nmodel m:C { b = rank }", "did you mean `int`?"),
    ],
)
def test_the_nearest_name_is_suggested(body: str, help: str) -> None:
    assert [diagnostic.helps for diagnostic in findings(body)] == [(help,)]
