"""Which package may import which, and that planning loads no torch."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "surgery"

TORCH_FREE = ("collector", "diagnostics", "files", "graph", "facts", "methods", "language", "planning")
HEAVY = ("torch", "peft", "transformers", "numpy", "accelerate", "safetensors", "diffusers")

# A package may import those of its own line and of the lines above it.
LAYERS = (
    ("diagnostics",),
    ("collector", "files"),
    ("graph",),
    ("facts", "methods", "language"),
    ("planning",),
    ("importing",),
    ("capturing", "inject"),
    ("verifying", "runtime"),
    ("training", "exporting"),
    ("cli", "demo"),
)


def in_fresh_interpreter(code: str) -> list[str]:
    """Run code in a process of its own; which of the heavy packages it loaded."""
    report = f"\nimport sys, json\nprint(json.dumps([name for name in {HEAVY!r} if name in sys.modules]))"
    done = subprocess.run([sys.executable, "-c", code + report], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    loaded: list[str] = json.loads(done.stdout.splitlines()[-1])
    return loaded


def test_torch_free_packages_load_nothing_heavy() -> None:
    code = f"""
import pkgutil, importlib, surgery
for name in {TORCH_FREE!r}:
    module = importlib.import_module("surgery." + name)
    for found in pkgutil.walk_packages(getattr(module, "__path__", []), module.__name__ + "."):
        importlib.import_module(found.name)
"""
    assert in_fresh_interpreter(code) == []


def test_the_check_sees_what_is_loaded() -> None:
    assert in_fresh_interpreter("import safetensors") == ["safetensors"]


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["check", "specs/minilm/minilm.surg"],
        ["fmt", "--check", "specs/minilm/minilm.surg"],
        ["plan", "specs/minilm/minilm.surg"],
        ["plan", "specs/minilm/minilm.surg", "--format", "json"],
        ["explain", "specs/minilm/minilm.surg", "pooler.dense"],
        ["explain", "E0203"],
        ["facts", "specs/minilm/minilm.graph.json"],
        ["methods"],
        ["methods", "lora"],
        ["swaps", "specs/minilm/minilm.surg", "specs/minilm/minilm.surg"],
    ],
    ids=lambda arguments: " ".join(arguments).replace("specs/minilm/", ""),
)
def test_commands_of_review_load_nothing_heavy(arguments: list[str]) -> None:
    code = f"""
from surgery.cli.main import main
try:
    code = main({arguments!r})
except SystemExit as exit:
    code = exit.code
assert not code, code
"""
    assert in_fresh_interpreter(code) == []


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_down_the_layers(path: Path) -> None:
    depth = {package: number for number, layer in enumerate(LAYERS) for package in layer}
    own = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    if own in {"__init__", "__main__"}:
        return
    for module in imported_modules(path):
        top, _, rest = module.partition(".")
        if top == "surgery" and rest:
            assert depth[rest.split(".")[0]] <= depth[own], f"{own} imports {module}"


def imported_modules(path: Path) -> list[str]:
    """Absolute names of all that a file imports, inside its functions too."""
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.append(node.module)
    return found
