"""The command works from a checkout, an editable install, a wheel, and a wheel made from the sdist."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

from surgery.diagnostics import CODES

ROOT = Path(__file__).parents[1]
SPEC = ROOT / "specs" / "minilm" / "minilm.surg"

pytestmark = pytest.mark.heavy


def run(*command: str | Path, cwd: Path, **environment: str) -> str:
    """Run a command outside the checkout's environment; its standard output."""
    clean = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env={**clean, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture
def environment(tmp_path: Path) -> Path:
    """The `bin` folder of an environment with this one's packages, but not `surgery`."""
    home = tmp_path / "environment"
    venv.create(home, symlinks=True)
    own = Path(sysconfig.get_path("purelib", vars={"base": str(home)}))
    # Files ending in .pth are read in `own` only: this environment's editable install is not seen there.
    (own / "packages.pth").write_text(sysconfig.get_path("purelib") + "\n", encoding="utf-8")
    return home / "bin"


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A wheel and an sdist of the checkout."""
    out = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "hatchling", "build", "--directory", out, cwd=ROOT)
    return {"wheel": next(out.glob("*.whl")), "sdist": next(out.glob("*.tar.gz"))}


def install(environment: Path, *what: str | Path) -> None:
    options = ["--no-deps", "--no-build-isolation", "--no-index", "--ignore-installed", "--quiet"]
    python = environment / "python"
    run(sys.executable, "-m", "pip", "--python", python, "install", *options, *what, cwd=environment)


def assert_works(environment: Path, elsewhere: Path, home: Path) -> None:
    """The installed command reads grammar, pages, graphs and its own spec, and is the package in `home`."""
    where = "import surgery, pathlib; print(pathlib.Path(surgery.__file__).parent)"
    assert Path(run(environment / "python", "-c", where, cwd=elsewhere).strip()) == home
    (elsewhere / "mine.surg").write_text(SPEC.read_text(encoding="utf-8"), encoding="utf-8")
    assert "mine.surg: ok" in run(environment / "surgery", "check", "mine.surg", cwd=elsewhere)
    assert "E0203" in run(environment / "surgery", "explain", "E0203", cwd=elsewhere)
    run(environment / "surgery", "plan", SPEC, cwd=elsewhere)
    spec_file = "from surgery.demo.pretrained import spec_file; print(spec_file())"
    spec = Path(run(environment / "python", "-c", spec_file, cwd=elsewhere).strip())
    assert spec.read_text(encoding="utf-8") == SPEC.read_text(encoding="utf-8")
    assert "36 " in run(environment / "surgery", "plan", spec, cwd=elsewhere)


def test_wheel(built: dict[str, Path], environment: Path, tmp_path: Path) -> None:
    install(environment, built["wheel"])
    home = Path(sysconfig.get_path("purelib", vars={"base": str(environment.parent)})) / "surgery"
    assert_works(environment, tmp_path, home)


def test_editable(environment: Path, tmp_path: Path) -> None:
    install(environment, "--editable", ROOT)
    assert_works(environment, tmp_path, ROOT / "surgery")


def test_checkout(environment: Path, tmp_path: Path) -> None:
    assert "ok" in run(environment / "python", "-m", "surgery", "check", SPEC, cwd=ROOT)
    output = run(environment / "python", "-m", "surgery", "check", SPEC, cwd=tmp_path, PYTHONPATH=str(ROOT))
    assert "ok" in output


def test_wheel_holds_what_the_package_reads(built: dict[str, Path]) -> None:
    names = set(zipfile.ZipFile(built["wheel"]).namelist())
    assert {f"surgery/diagnostics/pages/{code}.md" for code in CODES} <= names
    assert {"surgery/grammar/surg.lark", "surgery/py.typed"} <= names
    specs = {path.relative_to(ROOT) for path in (ROOT / "specs").rglob("*") if path.is_file()}
    assert {f"surgery/{path.as_posix()}" for path in specs} <= names
    assert not any(name.startswith(("tests/", "specs/", "grammar/")) for name in names)


def test_sdist_builds_the_same_wheel(built: dict[str, Path], tmp_path: Path) -> None:
    with tarfile.open(built["sdist"]) as archive:
        archive.extractall(tmp_path, filter="data")
    [source] = tmp_path.iterdir()
    run(sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", tmp_path / "out", cwd=source)
    [again] = (tmp_path / "out").glob("*.whl")
    contents = [
        {item.filename: item.CRC for item in zipfile.ZipFile(wheel).infolist()} for wheel in (built["wheel"], again)
    ]
    assert contents[0] == contents[1]
