"""Fixtures of all tests."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-goldens", action="store_true", help="rewrite golden files with what the code gives now")


@pytest.fixture
def update_goldens(request: pytest.FixtureRequest) -> bool:
    """Whether golden files are to be rewritten instead of compared."""
    return bool(request.config.getoption("--update-goldens"))


@pytest.fixture
def golden(request: pytest.FixtureRequest, update_goldens: bool) -> Callable[[str, str], None]:
    """`golden(text, "goldens/name.txt")`: the text equals that file, beside the test's own."""

    def check(text: str, name: str) -> None:
        file: Path = request.path.parent / name
        if update_goldens:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text, encoding="utf-8")
        assert file.exists(), f"{file} does not exist yet: run pytest --update-goldens"
        assert text == file.read_text(encoding="utf-8")

    return check
