"""A class of the smoke set, and its graph by the same way as that of a user's spec."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from surgery.capturing.from_spec import capture_spec
from surgery.diagnostics import Source
from surgery.graph import Graph
from surgery.language.spec import load_source


@dataclass(frozen=True)
class Case:
    """One class of a package. `smoke.PACKAGE_models` builds it and `smoke.PACKAGE_calls` has its example call."""

    package: str
    name: str

    def __str__(self) -> str:
        return f"{self.package}/{self.name}"

    @property
    def spec(self) -> str:
        return f"surg 1\nmodel smoke.{self.package}_models:{self.name}\ninputs smoke.{self.package}_calls:{self.name}\n"

    def capture(self) -> Graph:
        """What `surgery capture` makes of the case. Raises SurgeryError as `capture_spec` does."""
        path = Path(f"{self.name}.surg")
        return capture_spec(load_source(Source(path.name, self.spec), path, {}))
