"""The model a spec names, as text."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from surgery.language import LoadedSpec
from surgery.planning.signature import model_signature

SpecOf = Callable[..., LoadedSpec]


def test_settings_as_text_with_params_put_in(spec_of: SpecOf) -> None:
    text = """
    param depth: int = 4
    model toy.models:Toy {
      depth = depth  rate = 0.5  bias = false  norm = none  act = "gelu"  sizes = [1, depth]  kind = toy:KIND
      config = toy:Config { width = 2 * depth  empty = toy:Empty {} }
    }"""
    settings = (
        'depth = 6 rate = 0.5 bias = false norm = none act = "gelu" sizes = [1, 6] kind = toy:KIND '
        "config = toy:Config { width = 12 empty = toy:Empty {} }"
    )
    assert model_signature(spec_of(text, depth=6)) == ("toy.models:Toy", settings)


def test_a_changed_json_file_changes_the_signature(spec_of: SpecOf, tmp_path: Path) -> None:
    spec = spec_of('model toy:Toy { config = json("config.json") }')
    (tmp_path / "config.json").write_text(json.dumps({"b": 1, "a": 2}))
    before = model_signature(spec)
    assert before == ("toy:Toy", 'config = {"a": 2, "b": 1}')
    (tmp_path / "config.json").write_text(json.dumps({"b": 1, "a": 3}))
    assert model_signature(spec) != before


def test_no_model(spec_of: SpecOf) -> None:
    assert model_signature(spec_of("never tied")) == ("", "")
