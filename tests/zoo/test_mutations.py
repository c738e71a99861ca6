"""A model's code changes, and its facts follow: all that have to change do, and no others."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from mutations import MUTATIONS, SUBJECTS, Edit, Mutation
from mutations.evidence import cited, evidence_of, out_of_date, sources
from mutations.facts import expected_table, table_of
from mutations.package import changed

import surgery
from surgery.capturing import capture_spec
from surgery.cli.main import main
from surgery.graph import Graph

pytestmark = pytest.mark.heavy

BY_NAME = {mutation.name: mutation for mutation in MUTATIONS}


def captured(model: str, folder: Path) -> Graph:
    """The graph of a spec that names the model, so that init facts come from the code that is importable now."""
    spec = folder / f"{model}.surg"
    spec.write_text(f"surg 1\n{SUBJECTS[model].spec}", encoding="utf-8")
    return capture_spec(surgery.load(spec))


@cache
def original(model: str) -> Graph:
    with TemporaryDirectory() as folder:
        return captured(model, Path(folder))


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.name)
def test_the_facts_follow(mutation: Mutation, tmp_path: Path) -> None:
    before, modules = original(mutation.model), SUBJECTS[mutation.model].modules
    installed = sources(modules)
    with changed(modules, mutation.edits, tmp_path):
        after = captured(mutation.model, tmp_path)
    expected, found = expected_table(table_of(before), mutation), table_of(after)
    differ = {key for key in expected.keys() | found.keys() if expected.get(key) != found.get(key)}
    assert {key: (expected.get(key, "no"), found.get(key, "no")) for key in sorted(differ)} == {}

    mutated = sources(modules, tmp_path)
    for citation in mutation.cites:
        evidence = evidence_of(after[citation.path], citation.fact)
        assert any(citation.text in line for _, line in cited(evidence, mutated)), evidence
    assert not [*out_of_date(before, after, installed, mutated)]


def test_another_version_of_the_source_is_noticed(tmp_path: Path) -> None:
    name = "f5_tts.model.modules"
    installed = import_module(name)
    edits = [Edit(name, "        self.a = no_longer\n        self.b = there\n", "")]
    with pytest.raises(AssertionError, match="has 0, not 1"), changed([name], edits, tmp_path):
        pass
    assert import_module(name) is installed


def test_the_installed_source_is_back_afterwards(tmp_path: Path) -> None:
    name = "f5_tts.model.modules"
    installed = import_module(name)
    with changed([name], [Edit(name, "class GRN(", "class Response(")], tmp_path):
        assert not hasattr(import_module(name), "GRN")
    assert import_module(name) is installed


def test_there_are_ten_kinds_on_five_models() -> None:
    assert len({mutation.kind for mutation in MUTATIONS}) >= 10
    assert len({mutation.model for mutation in MUTATIONS}) >= 5


# --- as a user meets it -------------------------------------------------------------------

PROTECTED = """
let linear = kind(Linear) & inside(path("transformer_blocks.*"))
never role(modulation)  because "its gates keep every block an identity at the start"
never init(zero)  because "what starts as zeros is the model's init contract"
target blocks { select linear - role(modulation)  expect >= 12  lora { r = 4  alpha = 4 } }
"""


@pytest.fixture(scope="module")
def locked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with a spec of F5-TTS, its graph, and the lock of a plan that was accepted."""
    folder = tmp_path_factory.mktemp("locked")
    (folder / "f.surg").write_text(f"surg 1\n{SUBJECTS['f5_tts'].spec}\n{PROTECTED}", encoding="utf-8")
    assert main(["capture", str(folder / "f.surg")]) == 0
    assert main(["lock", str(folder / "f.surg")]) == 0
    assert main(["plan", str(folder / "f.surg")]) == 0
    return folder


@pytest.mark.parametrize(
    ("kind", "exit_code", "said"),
    [
        (
            "zero-init of the modulation removed",
            2,
            ["- never init(zero)  transformer_blocks.[0:2].attn_norm.linear"],
        ),
        (
            "zero-init added",
            1,
            ["error[E0301]", "selects transformer_blocks.0.attn.to_out.0", "weight starts as zero (f5_tts/model/"],
        ),
        (
            "gate renamed",
            2,
            [
                "+ never role(modulation)  transformer_blocks.[0:2].attn_norm.queries",
                "- never role(modulation)  transformer_blocks.[0:2].attn_norm.linear",
            ],
        ),
        ("scale computed from its own stream", 2, ["- never role(modulation)  norm_out.linear"]),
        ("scale added", 2, ["+ never role(modulation)  transformer_blocks.[0:2].scale"]),
        ("scale turned into a GLU", 2, ["+ transformer_blocks.[0:2].scale  2 sites"]),
        ("modulation no longer called", 1, ["error[E0306]", "transformer_blocks.0.attn_norm.linear"]),
        ("output projection read directly", 1, ["error[E0305]", "transformer_blocks.0.attn.to_out.0"]),
        ("weight tied", 1, ["error[E0307]", "transformer_blocks.0.attn.to_k"]),
    ],
)
def test_a_locked_plan_shows_it(
    locked: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str, exit_code: int, said: list[str]
) -> None:
    spec, graph = str(locked / "f.surg"), str(tmp_path / "after.graph.json")
    with changed(SUBJECTS["f5_tts"].modules, BY_NAME[f"f5_tts: {kind}"].edits, tmp_path):
        assert main(["capture", spec, "--out", graph]) == 0
    capsys.readouterr()
    assert main(["plan", spec, "--graph", graph]) == exit_code
    shown = "".join(capsys.readouterr())
    assert [text for text in said if text not in shown] == []
