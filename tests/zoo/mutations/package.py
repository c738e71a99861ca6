"""An installed package with changed source, as an upgrade or a patch would leave it."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from textwrap import dedent, indent

from mutations.case import Edit


@contextmanager
def changed(modules: Sequence[str], edits: Sequence[Edit], folder: Path) -> Iterator[None]:
    """While active, importing one of `modules` gives a module made from its changed source.

    All of `modules` are made anew, in this order, because they import from each other. Their sources lie in `folder`
    under their own paths, so that `inspect` finds them and evidence names them as it names the originals.
    """
    assert {edit.module for edit in edits} <= {*modules}
    originals = {name: import_module(name) for name in modules}
    for name, original in originals.items():
        assert original.__file__
        text = Path(original.__file__).read_text(encoding="utf-8")
        file = source_file(name, folder)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(_edited(text, [edit for edit in edits if edit.module == name]), encoding="utf-8")
    sys.path.append(str(folder))
    try:
        for name in modules:
            _load(name, source_file(name, folder))
        yield
    finally:
        sys.path.remove(str(folder))
        sys.modules.update(originals)


def source_file(module: str, folder: Path) -> Path:
    return folder / f"{module.replace('.', '/')}.py"


def _edited(text: str, edits: Sequence[Edit]) -> str:
    for edit in edits:
        of_lines = "\n" in edit.old
        text, found = _lines_replaced(text, edit) if of_lines else _parts_replaced(text, edit)
        assert found == edit.times, f"{edit.module} has {found}, not {edit.times} of:\n{edit.old}"
    return text


def _parts_replaced(text: str, edit: Edit) -> tuple[str, int]:
    return text.replace(edit.old, edit.new), text.count(edit.old)


def _lines_replaced(text: str, edit: Edit) -> tuple[str, int]:
    """The text with whole lines replaced, at the indentation at which they are found; and how often they were."""
    old, new = (dedent(part).strip("\n") for part in (edit.old, edit.new))
    lines = [rf"(?P=depth){re.escape(line)}\n" if line else r"\n" for line in old.split("\n")]
    lines[0] = lines[0].replace("(?P=depth)", "^(?P<depth> *)")
    return re.subn(
        "".join(lines), lambda found: indent(f"{new}\n" if new else "", found["depth"]), text, flags=re.MULTILINE
    )


def _load(name: str, file: Path) -> None:
    spec = spec_from_file_location(name, file)
    assert spec
    assert spec.loader
    module = module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
