"""The registry of diagnostic codes.

E00xx syntax, E01xx names and types, E02xx selection and counts, E03xx protection and conflict,
E04xx method and backend, E05xx drift, lock and files, W09xx lints.

Every code has a page in `pages/` (what it means, why it matters, an example, a way out), which
`surgery explain CODE` prints, and a case in `tests/rejects/` that triggers it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Severity = Literal["error", "warning"]


@dataclass(frozen=True)
class Code:
    """One code: its id, its title in a few words, and how bad it is."""

    id: str
    title: str

    @property
    def severity(self) -> Severity:
        return "warning" if self.id.startswith("W") else "error"

    @property
    def page(self) -> str:
        """The Markdown page of the code."""
        from importlib.resources import files  # slow to import, and only this needs it

        return (files("surgery.diagnostics") / "pages" / f"{self.id}.md").read_text(encoding="utf-8")


CODES: dict[str, Code] = {
    id: Code(id, title)
    for id, title in {
        # Syntax
        "E0001": "unexpected token",
        "E0002": "not a text file",
        "E0003": "missing edition line",
        "E0004": "unknown edition",
        "E0005": "unterminated string",
        "E0006": "unbalanced brackets",
        "E0007": "reserved for a later edition",
        "E0008": "nested too deeply",
        "E0009": "malformed glob",
        # Names and types
        "E0101": "unknown name",
        "E0102": "unknown selector",
        "E0103": "unknown word",
        "E0104": "defined twice",
        "E0105": "wrong type",
        "E0106": "unknown setting",
        "E0107": "missing part",
        "E0108": "circular definition",
        "E0109": "unknown parameter override",
        # Selection and counts
        "E0201": "selector matches nothing",
        "E0202": "alternative matches nothing",
        "E0203": "count differs from expect",
        "E0204": "no such module",
        "E0205": "choice rests on an unknown fact",
        # Protection and conflict
        "E0301": "protected module touched",
        "E0302": "two targets on one module",
        "E0303": "budget exceeded",
        "E0304": "protection rests on an unknown fact",
        "E0305": "adapter would be bypassed",
        "E0306": "module that never runs",
        "E0307": "shared storage touched",
        "E0308": "trained and adapted",
        "E0309": "assumption contradicts the graph",
        # Method and backend
        "E0401": "unknown method",
        "E0402": "unknown method setting",
        "E0403": "wrong value for a method setting",
        "E0404": "method cannot adapt this module",
        "E0405": "setting not supported",
        "E0406": "PEFT cannot do this exactly",
        "E0407": "adapters that PEFT cannot hold in one model",
        # Drift, lock and files
        "E0501": "file cannot be read",
        "E0502": "damaged graph file",
        "E0503": "graph of another model",
        "E0504": "damaged lock",
        "E0505": "lock of another spec",
        "E0506": "model differs from the plan",
        "E0507": "name cannot be imported",
        "E0508": "capture failed",
        "E0509": "adapted model differs from the plan",
        "E0510": "verification failed",
        "E0511": "plan is not applyable",
        "E0512": "run belongs to another plan",
        "E0513": "export differs from the adapted model",
        "E0514": "file cannot be written",
        "E0515": "training cannot start",
        "E0516": "training stopped",
        "E0517": "weights do not fit the model",
        "E0518": "mapping does not fit the checkpoint",
        "E0519": "adapter does not fit the plan",
        "E0520": "adapter cannot be swapped in",
        # Lints
        "W0901": "target without expect",
        "W0902": "LoHa rank above the square root of the width",
        "W0903": "alpha far from the rank",
        "W0904": "unused definition",
        "W0905": "protection or exclusion without effect",
        "W0906": "no gradient reaches the adapters",
        "W0907": "every target is switched off",
        "W0908": "reach is not known",
        "W0909": "the base model is random",
        "W0910": "setting without effect",
    }.items()
}
