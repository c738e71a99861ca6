"""The plan as data: its file, its schema."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

import surgery
from surgery.diagnostics import SurgeryError
from surgery.graph import Graph
from surgery.language import LoadedSpec
from surgery.planning.plan import json_schema, read_plan

SPEC = 'target t { select path("time") lora { r = 2 } }\nnever role(conditioning)'


def test_the_committed_schema_is_the_plans(update_goldens: bool) -> None:
    file = Path(surgery.__file__).parent / "planning" / "plan.schema.json"
    if update_goldens:
        file.write_text(json_schema(), encoding="utf-8")
    assert file.read_text(encoding="utf-8") == json_schema()


def test_a_plan_comes_back_from_its_file(toy: Graph, spec_of: Callable[..., LoadedSpec], tmp_path: Path) -> None:
    plan = surgery.plan(spec_of(SPEC), toy)
    assert not plan.applyable
    assert plan.diagnostics[0].span is not None
    (tmp_path / "plan.json").write_text(plan.model_dump_json(indent=2))
    assert surgery.read_plan(tmp_path / "plan.json") == plan
    assert {"format_version", "applyable", "sites", "never", "totals"} <= set(json.loads(plan.model_dump_json()))


@pytest.mark.parametrize("text", ["", "{}", "[" * 100_000, '{"format_version": 2}', "null"])
def test_a_file_that_is_no_plan(tmp_path: Path, text: str) -> None:
    (tmp_path / "plan.json").write_text(text)
    with pytest.raises(SurgeryError) as raised:
        read_plan(tmp_path / "plan.json")
    assert [diagnostic.code for diagnostic in raised.value.diagnostics] == ["E0501"]
