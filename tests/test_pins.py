"""`constraints.txt` pins all that `make test` installs, within the ranges that the package declares."""

from __future__ import annotations

from importlib.metadata import distribution
from pathlib import Path

import pytest
import tomllib
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parents[1]


def requirements_in(name: str) -> list[Requirement]:
    lines = (ROOT / name).read_text(encoding="utf-8").splitlines()
    return [Requirement(line) for line in lines if line and not line.startswith("#")]


PINS = {canonicalize_name(r.name): r for r in requirements_in("constraints.txt")}
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
DECLARED = [
    Requirement(text)
    for group in (PROJECT["dependencies"], *PROJECT["optional-dependencies"].values())
    for text in group
]


@pytest.mark.parametrize("declared", [*DECLARED, *requirements_in("tests/models.txt")], ids=lambda r: str(r.name))
def test_a_pin_in_the_declared_range(declared: Requirement) -> None:
    [pin] = PINS[canonicalize_name(declared.name)].specifier
    assert pin.operator == "=="
    assert declared.specifier.contains(pin.version)


def test_the_installed_versions_are_the_pinned_ones() -> None:
    for name in (canonicalize_name(declared.name) for declared in DECLARED):
        [pin] = PINS[name].specifier
        assert Version(distribution(name).version).public == pin.version, name
