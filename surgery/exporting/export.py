"""Export an adapted model in one of the registered formats."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from surgery.diagnostics import Diagnostic, Diagnostics, SurgeryError
from surgery.exporting.format import Exported, Format
from surgery.exporting.merged import MERGED
from surgery.exporting.peft import PEFT
from surgery.inject.compare import compare
from surgery.inject.fit import refusals
from surgery.inject.replace import replaced_folder
from surgery.inject.state import Adapted
from surgery.planning.plan import Plan

FORMATS: dict[str, Format] = {format.name: format for format in (PEFT, MERGED)}


def export(model: Adapted, plan: Plan, directory: Path | str, to: str = "peft", *, inputs: Any = None) -> Exported:
    """Write the adapted model into `directory`, which is replaced in one step once everything in it is proved.

    `to` names a format: `peft` (directories that plain PEFT loads) or `merged` (one safetensors file with the base
    model's keys and dtypes). With `inputs`, an example call as for `verify`, whole-model outputs are compared too.
    The live model is left as it was. Raises SurgeryError: E0103 for another format, E0511 for a
    plan that adapts nothing, E0509 for a model that is not
    the plan's, E0513 where what was written is not the adapted model, E0514 where it cannot be written.
    """
    if to not in FORMATS:
        raise SurgeryError(_unknown(to))
    Diagnostics(refusals(plan)).raise_errors()
    Diagnostics(compare(model, plan)).raise_errors()
    directory = Path(directory)
    with replaced_folder(directory) as folder:
        proofs = FORMATS[to].write(model, plan, folder, inputs)
        files = {
            str(file.relative_to(folder)): file.stat().st_size for file in sorted(folder.rglob("*")) if file.is_file()
        }
    return Exported(to, directory, files, proofs)


def _unknown(to: str) -> Diagnostic:
    formats = "; ".join(f"`{format.name}`: {format.doc}" for format in FORMATS.values())
    return Diagnostic("E0103", f"there is no export format `{to}`", helps=(f"the formats are {formats}",))
