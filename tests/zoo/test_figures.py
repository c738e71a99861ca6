"""The table of figures in `specs/README.md`, made from the zoo; `--update-goldens` rewrites it."""

from __future__ import annotations

import ast
import re
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import pytest
from architectures import ARCHITECTURES
from labelled import REACH, captured, differences, expected_and_found
from smoke import diffusers_models, transformers_models

from surgery.graph import ROLES

HERE = Path(__file__).parent
PAGE = HERE.parents[1] / "specs" / "README.md"
BETWEEN = re.compile(r"(<!-- figures -->\n).*(\n<!-- end of figures -->)", re.DOTALL)


@pytest.mark.heavy
def test_the_page_shows_the_figures(update_goldens: bool) -> None:
    page = PAGE.read_text(encoding="utf-8")
    made = "\n".join(figures())
    if update_goldens:
        PAGE.write_text(BETWEEN.sub(lambda found: found[1] + made + found[2], page), encoding="utf-8")
    shown = BETWEEN.search(PAGE.read_text(encoding="utf-8"))
    assert shown
    assert shown[0] == shown[1] + made + shown[2]


def figures() -> Iterator[str]:
    """The page's lines."""
    development = [name for name, architecture in ARCHITECTURES.items() if not architecture.held_out]
    held_out = [name for name, architecture in ARCHITECTURES.items() if architecture.held_out]
    alike = sum(not differences(name) for name in held_out)
    yield f"The development set has {len(development)} architectures, all of them as labelled in every role and fact."
    yield f"The held-out set has {len(held_out)}, whose labels were made without the rules; {alike} are as labelled."
    yield "`tests/zoo/known_differences.json` says of the others what differs and why."
    yield ""
    yield "| role or fact | development: precision | recall | labels | held out: precision | recall | labels |"
    yield "|---|---|---|---|---|---|---|"
    for what in (*ROLES, *(f"{fact}: {answer}" for fact, answer in REACH)):
        yield f"| {what} | {' | '.join((*_scores(what, development), *_scores(what, held_out)))} |"
    yield ""
    yield from _checks()


def _scores(what: str, names: Collection[str]) -> tuple[str, str, str]:
    """Precision, recall and the number of labels over some architectures."""
    pairs = [expected_and_found(name)[what] for name in names]
    right = sum(len(expected & found) for expected, found in pairs)
    labelled, said = (sum(len(pair[side]) for pair in pairs) for side in (0, 1))
    return _share(right, said), _share(right, labelled), str(labelled)


def _share(part: int, whole: int) -> str:
    """Two decimals, rounded down, so that 1.00 means all."""
    return f"{part * 100 // whole / 100:.2f}" if whole else "-"


def _checks() -> Iterator[str]:
    cases = len(diffusers_models.class_names()) + len(transformers_models.class_names())
    stopped = len(_constant("test_smoke.py", "EXPECTED_DIAGNOSTICS"))
    refused = len(_constant("test_exported.py", "REFUSED"))
    parameters = sum(len(module.parameters) for name in ARCHITECTURES for module in captured(name).modules.values())
    yield "| check | figure | test |"
    yield "|---|---|---|"
    yield (
        f"| classes of diffusers and transformers captured | {cases - stopped} of {cases}, the others with a diagnostic"
        " that names the cause | `tests/zoo/test_smoke.py` |"
    )
    yield (
        f"| facts agree with those of `torch.export` | all modules of {len(ARCHITECTURES) - refused} architectures;"
        f" {refused} it does not take | `tests/zoo/test_exported.py` |"
    )
    yield f"| first values agree with a real construction | {parameters:,} parameters | `tests/zoo/test_init.py` |"


def _constant(file: str, name: str) -> dict[str, Any]:
    """A table that a test module writes down."""
    for statement in ast.parse((HERE / file).read_text(encoding="utf-8")).body:
        if isinstance(statement, ast.Assign) and ast.unparse(statement.targets[0]) == name:
            return ast.literal_eval(statement.value)
    raise AssertionError(f"{file} has no {name}")
