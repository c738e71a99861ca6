"""Loading a spec: files, params and their overrides, values, fingerprints."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import surgery
from surgery.diagnostics import SurgeryError
from surgery.language import LoadedSpec, parse_override, tree
from surgery.language.grammar import grammar_text

SPEC = """\
surg 1
param rank: int = 16
param alpha: int = 2 * rank
param dropout: float = 0
param method: str = "lora"
param adapt_ff: bool = rank > 8

let blocks = path("blocks.*")  expect rank / 4
target attention when adapt_ff and method == "lora" {
  select blocks
  lora { r = rank  alpha = alpha  dropout = dropout }
}
"""


def loaded(folder: Path, text: str = SPEC, **overrides: Any) -> LoadedSpec:
    path = folder / "f5.surg"
    path.write_text(text, encoding="utf-8")
    return surgery.load(path, **overrides)


def codes(folder: Path, text: str = SPEC, **overrides: Any) -> list[str]:
    with pytest.raises(SurgeryError) as error:
        loaded(folder, text, **overrides)
    return [diagnostic.code for diagnostic in error.value.diagnostics]


def test_defaults_and_what_they_are_made_from(tmp_path: Path) -> None:
    assert loaded(tmp_path).params == {"rank": 16, "alpha": 32, "dropout": 0.0, "method": "lora", "adapt_ff": True}


def test_an_override_reaches_the_defaults_made_from_it(tmp_path: Path) -> None:
    params = loaded(tmp_path, rank=4, dropout=1).params
    assert params == {"rank": 4, "alpha": 8, "dropout": 1.0, "method": "lora", "adapt_ff": False}
    assert isinstance(params["dropout"], float)


@pytest.mark.parametrize(
    ("overrides", "code"),
    [
        ({"rnak": 3}, "E0109"),
        ({"rank": "3"}, "E0105"),
        ({"rank": 3.5}, "E0105"),
        ({"rank": True}, "E0105"),
        ({"rank": 2**64}, "E0105"),
        ({"dropout": float("nan")}, "E0105"),
        ({"adapt_ff": 1}, "E0105"),
        ({"method": 3}, "E0105"),
        ({"method": None}, "E0105"),
    ],
)
def test_wrong_overrides(tmp_path: Path, overrides: dict[str, Any], code: str) -> None:
    assert codes(tmp_path, **overrides) == [code]


@pytest.mark.parametrize(
    ("text", "override"),
    [
        ("rank=32", ("rank", 32)),
        ("rank = -3", ("rank", -3)),
        ("p=1e-4", ("p", 1e-4)),
        ("p=2.0", ("p", 2.0)),
        ("p=true", ("p", True)),
        ("p=none", ("p", None)),
        ("p=loha", ("p", "loha")),
        ('p="16"', ("p", "16")),
        ("p=a=b", ("p", "a=b")),
        ("p=inf", ("p", "inf")),
        ("p=", ("p", "")),
    ],
)
def test_overrides_of_the_command_line(text: str, override: tuple[str, Any]) -> None:
    assert parse_override(text) == override
    assert type(parse_override(text)[1]) is type(override[1])


@pytest.mark.parametrize("text", ["rank", "=3", "ra nk=3"])
def test_malformed_overrides_of_the_command_line(text: str) -> None:
    with pytest.raises(SurgeryError) as error:
        parse_override(text)
    assert [diagnostic.code for diagnostic in error.value.diagnostics] == ["E0109"]


def test_expressions_are_evaluated_with_params_and_counts(tmp_path: Path) -> None:
    spec = loaded(tmp_path, SPEC.replace("expect rank / 4", 'expect 4 * count(path("x")) - rank'))
    (let,), (target,) = spec.tree.lets, spec.tree.targets
    assert let.expect
    assert spec.evaluate(let.expect.low, count=lambda selected: 22 if isinstance(selected, tree.Paths) else 0) == 72
    assert target.when
    assert spec.evaluate(target.when) is True
    with pytest.raises(SurgeryError):
        spec.evaluate(let.expect.low)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("7 / 2", 3.5),
        ("8 / 2", 4),
        ("[1, rank, [none]]", [1, 16, [None]]),
        ("20 MB", 20_000_000),
        ("50%", 0.5),
        ("not (rank == 16) or 1 < 2", True),
        ('json("config.json")', {"hidden": [1, 2]}),
        ("-rank", -16),
    ],
)
def test_values(tmp_path: Path, text: str, value: object) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"hidden": [1, 2]}))
    spec = loaded(tmp_path, f"surg 1\nparam rank: int = 16\nmodel m:C {{ a = {text}  b = rank }}")
    assert spec.tree.model
    found = spec.evaluate(spec.tree.model.settings[0].value)
    assert found == value
    assert type(found) is type(value)


def test_objects_evaluate_to_themselves(tmp_path: Path) -> None:
    spec = loaded(tmp_path, "surg 1\nmodel m:C { a = t:D { n = 3 }  b = [t:E] }")
    assert spec.tree.model
    a, b = (spec.evaluate(setting.value) for setting in spec.tree.model.settings)
    assert isinstance(a, tree.Construction)
    assert isinstance(b[0], tree.Reference)


def test_where_is_evaluated_with_a_modules_numbers(tmp_path: Path) -> None:
    spec = loaded(tmp_path, "surg 1\nparam width: int = 64\nnever where(out_features >= 2 * width and groups == 1)")
    condition = spec.tree.nevers[0].value
    assert isinstance(condition, tree.Where)
    assert spec.evaluate(condition.condition, names={"out_features": 128, "groups": 1}) is True
    assert spec.evaluate(condition.condition, names={"out_features": 127, "groups": 1}) is False


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("1 / 0", "E0105"),
        ("1e300 * 1e300", "E0105"),
        ("true + 1", "E0105"),
        ('json("absent.json")', "E0501"),
        ('json("../outside.json")', "E0501"),
        ('json("/etc/hostname")', "E0501"),
        ('json("broken.json")', "E0501"),
        ('json("binary.json")', "E0002"),
    ],
)
def test_values_that_cannot_be_had(tmp_path: Path, text: str, code: str) -> None:
    (tmp_path / "broken.json").write_text("{")
    (tmp_path / "binary.json").write_bytes(b"\xff\xfe\x00")
    assert codes(tmp_path, f"surg 1\nparam p: int = {text}\nmodel m:C {{ a = p }}")[0] == code


def test_files_beside_the_spec(tmp_path: Path) -> None:
    spec = loaded(tmp_path)
    assert spec.graph_path == tmp_path / "f5.graph.json"
    assert spec.lock_path == tmp_path / "f5.surg.lock"
    named = loaded(tmp_path, 'surg 1\ngraph "../base.graph.json"\n')
    assert named.graph_path == tmp_path / "../base.graph.json"


def test_the_fingerprint_is_of_meaning_not_of_layout(tmp_path: Path) -> None:
    fingerprint = loaded(tmp_path).fingerprint
    assert fingerprint.startswith("sha256:")
    assert loaded(tmp_path, SPEC.replace("\n\n", "\n\n\n\n").replace("  ", "   ")).fingerprint == fingerprint
    assert loaded(tmp_path, SPEC.replace('"blocks.*"', '"blocks.0"')).fingerprint != fingerprint
    assert loaded(tmp_path, rank=8).fingerprint != fingerprint


def test_lints_do_not_stop_loading(tmp_path: Path) -> None:
    assert [found.code for found in loaded(tmp_path, "surg 1\nlet a = all\nlet b = a").diagnostics] == ["W0904"]


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(SurgeryError) as error:
        surgery.load(tmp_path / "absent.surg")
    assert [diagnostic.code for diagnostic in error.value.diagnostics] == ["E0501"]


def test_windows_line_ends_and_a_byte_order_mark_are_read(tmp_path: Path) -> None:
    path = tmp_path / "w.surg"
    path.write_bytes(b"\xef\xbb\xbf" + SPEC.replace("\n", "\r\n").encode())
    assert surgery.load(path).params["alpha"] == 32


def test_a_comment_ends_where_a_line_ends_by_a_carriage_return_alone(tmp_path: Path) -> None:
    path = tmp_path / "m.surg"
    path.write_bytes(b"surg 1\r# protections\rnever all\r")
    assert len(surgery.load(path).tree.nevers) == 1


def test_the_grammar_is_the_one_of_the_checkout() -> None:
    assert grammar_text() == (Path(__file__).parents[2] / "grammar" / "surg.lark").read_text(encoding="utf-8")
