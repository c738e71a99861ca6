"""Reading and replacing files."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from surgery.diagnostics import SurgeryError
from surgery.files import read_text, replace_file


def test_a_file_is_replaced_in_one_step(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    replace_file(path, "one")
    with path.open() as before:
        replace_file(path, "two")
        assert before.read() == "one"  # who reads the old file goes on reading it
    assert path.read_text() == "two"
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.txt"]


def test_modes_are_kept_and_new_files_follow_the_umask(tmp_path: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    old.write_text("x")
    old.chmod(0o640)
    mask = os.umask(0o027)
    try:
        replace_file(old, "y")
        replace_file(new, "y")
    finally:
        os.umask(mask)
    assert old.stat().st_mode & 0o777 == 0o640
    assert new.stat().st_mode & 0o777 == 0o640


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "shared").mkdir()
    real, link = tmp_path / "shared" / "real", tmp_path / "link"
    real.write_text("x")
    link.symlink_to(real)
    replace_file(link, "y")
    assert link.is_symlink()
    assert real.read_text() == "y"


def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(SurgeryError, match="E0514"):
        replace_file(path, "new")
    assert path.read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.txt"]


@pytest.mark.parametrize(
    ("data", "code"), [(b"\xff\xfe\x00", "E0002"), (b"a\0b", "E0002"), (None, "E0501")], ids=["bytes", "zero", "absent"]
)
def test_what_is_no_text_is_said(tmp_path: Path, data: bytes | None, code: str) -> None:
    path = tmp_path / "f"
    if data is not None:
        path.write_bytes(data)
    with pytest.raises(SurgeryError) as raised:
        read_text(path)
    assert [found.code for found in raised.value.diagnostics] == [code]


def test_line_ends_and_marks_of_other_systems(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(b"\xef\xbb\xbfa\r\nb\rc\n")
    assert read_text(path) == "a\nb\nc\n"
