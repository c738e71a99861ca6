"""Replacing a folder: the old one or the new one, also when it is interrupted."""

from pathlib import Path

import pytest

from surgery.inject.replace import replaced_folder

NAME = "adapter_config.json"


def folder_of(path: Path, text: str) -> Path:
    path.mkdir()
    (path / NAME).write_text(text)
    return path


def replace(folder: Path) -> None:
    with replaced_folder(folder) as temporary:
        (temporary / NAME).write_text("new")


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("step", [1, 2])
def test_an_interrupt_between_the_steps_loses_nothing(step, late, tmp_path, monkeypatch):
    folder = folder_of(tmp_path / "out", "old")
    rename, calls = Path.rename, []

    def interrupted(self, target):
        calls.append(target)
        if len(calls) != step:
            return rename(self, target)
        if late:
            rename(self, target)
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "rename", interrupted)
    with pytest.raises(KeyboardInterrupt):
        replace(folder)
    assert (folder / NAME).read_text() == ("new" if step == 2 and late else "old")
    assert [entry.name for entry in tmp_path.iterdir()] == ["out"]


def test_a_link_stays_and_what_it_leads_to_is_replaced(tmp_path):
    folder = folder_of(tmp_path / "real", "old")
    (tmp_path / "link").symlink_to(folder)
    replace(tmp_path / "link")
    assert (tmp_path / "link").is_symlink()
    assert (folder / NAME).read_text() == "new"
