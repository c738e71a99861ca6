"""Every role, and what is bypassed and unreached, against labels that were made by reading the models' source."""

from __future__ import annotations

import json
from typing import Any

import pytest
from architectures import ARCHITECTURES
from labelled import FOLDER, differences

pytestmark = pytest.mark.heavy
DEVELOPMENT = [name for name, architecture in ARCHITECTURES.items() if not architecture.held_out]
HELD_OUT = [name for name, architecture in ARCHITECTURES.items() if architecture.held_out]
KNOWN = FOLDER / "known_differences.json"


@pytest.mark.parametrize("name", DEVELOPMENT)
def test_development_set(name: str) -> None:
    assert not differences(name)


@pytest.mark.parametrize("name", HELD_OUT)
def test_held_out_set(name: str) -> None:
    """As the labels say, but for what is known to differ; `--update-goldens` does not touch that list."""
    assert differences(name) == known().get(name, {})


def test_known_differences_are_of_the_held_out_set() -> None:
    assert known().keys() <= set(HELD_OUT)


def known() -> dict[str, Any]:
    """`known_differences.json`: by architecture, what capture misses or says wrongly, and `why`."""
    listed = json.loads(KNOWN.read_text(encoding="utf-8"))
    return {name: {what: wrong for what, wrong in found.items() if what != "why"} for name, found in listed.items()}
