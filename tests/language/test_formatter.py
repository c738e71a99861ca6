"""The one layout of `.surg` files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from surgery.diagnostics import Source, SurgeryError
from surgery.language import format_text

HERE = Path(__file__).parent


def formatted(text: str) -> str:
    return format_text(Source("t.surg", text))


@pytest.mark.parametrize("name", ["example", "unformatted"])
def test_goldens(name: str, golden: Callable[[str, str], None]) -> None:
    golden(formatted((HERE / f"{name}.surg").read_text(encoding="utf-8")), f"goldens/{name}.formatted.surg")


@pytest.mark.parametrize("name", ["example", "unformatted"])
def test_what_is_formatted_stays_as_it_is(name: str) -> None:
    text = (HERE / f"goldens/{name}.formatted.surg").read_text(encoding="utf-8")
    assert formatted(text) == text


@pytest.mark.parametrize(
    ("text", "layout"),
    [
        ("let a=b|c&(d-e)", "let a = b | c & (d - e)"),
        ("param a:int=-3", "param a: int = -3"),
        ("param a:bool=not(b==- 1)", "param a: bool = not (b == -1)"),
        ("param a:float=2*-(3 - 1)", "param a: float = 2 * -(3 - 1)"),
        ("never all because 'x'".replace("'", '"'), 'never all  because "x"'),
        ("let a=all expect 3 .. 4", "let a = all  expect 3..4"),
        ("let a=index(all,0:4,-1,)", "let a = index(all, 0:4, -1)"),
        ("inputs{x=f32[ 2,3 ]  y=i64[]<5}", "inputs { x = f32[2, 3]  y = i64[] < 5 }"),
        ("model m:C{a=[1 , 2,],b=t:D{c=none}}", "model m:C { a = [1, 2]  b = t:D { c = none } }"),
        ("model m:C{}", "model m:C {}"),
        ("budget{adapter<=20MB,trainable< 1 %}", "budget { adapter <= 20 MB  trainable < 1% }"),
        ("checkpoint a{every=2}", "checkpoint a { every = 2 }"),
        (
            'weights{"a.**"->"**" ignore"b" , "c"because"d"}',
            'weights { "a.**" -> "**"  ignore "b", "c"  because "d" }',
        ),
    ],
)
def test_spacing(text: str, layout: str) -> None:
    assert formatted(f"surg 1\n{text}") == f"surg 1\n{layout}\n"


def test_the_body_of_a_target_has_a_part_on_each_line() -> None:
    assert formatted("surg 1 target a when b{select c lora{r=1}expect 3}") == (
        "surg 1\ntarget a when b {\n  select c\n  lora { r = 1 }\n  expect 3\n}\n"
    )


def test_line_breaks_between_settings_stay_and_long_lines_are_wrapped() -> None:
    settings = "  ".join(f"setting_number_{n} = {n}" for n in range(9))
    text = formatted(f"surg 1\nmodel m:C {{ a = 1\n b = 2 {settings} }}")
    lines = text.splitlines()
    assert lines[2] == "  a = 1"
    assert lines[3].startswith("  b = 2  setting_number_0 = 0")
    assert lines[4].startswith("  setting_number_")
    assert max(map(len, lines)) <= 120


def test_empty_lines_are_kept_one_at_a_time() -> None:
    assert formatted("\n\nsurg 1\n\n\n\nlet a = all\nlet b = a\n\n\n") == "surg 1\n\nlet a = all\nlet b = a\n"


def test_comments_stay_where_they_were() -> None:
    text = "# top\n\nsurg 1  # edition\n# above\nlet a = all  # beside\n"
    text += "model m:C {\n  # inside\n  b = 1  # why\n\n  # last\n}\n# end\n"
    assert formatted(text) == text


def test_a_file_with_syntax_errors_is_refused() -> None:
    with pytest.raises(SurgeryError):
        formatted("surg 1\nlet a =")
