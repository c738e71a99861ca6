"""What a format of export does, and what it reports."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from surgery.inject.state import Adapted
from surgery.planning.plan import Plan
from surgery.verifying.verification import Proof


@dataclass(frozen=True)
class Exported:
    """The files of an export (relative to its folder) with their bytes, and the proofs that they hold."""

    format: str
    directory: Path
    files: dict[str, int]
    proofs: tuple[Proof, ...]

    def __str__(self) -> str:
        files = [f"wrote     {self.directory / name} ({size:,} bytes)" for name, size in self.files.items()]
        return "\n".join([*files, *(f"proved    {proof}" for proof in self.proofs)])


@dataclass(frozen=True)
class Format:
    """A format: `write(model, plan, folder, inputs)` fills an empty folder and returns its proofs, or raises E0513."""

    name: str
    doc: str
    write: Callable[[Adapted, Plan, Path, Any], tuple[Proof, ...]]
