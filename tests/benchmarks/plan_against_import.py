"""`surgery plan` as a whole process, against importing PEFT, in the same run."""

from __future__ import annotations

import statistics
import sys
from pathlib import Path

from measure import alternating, process_cpu, shown

SPEC = Path(__file__).parents[2] / "specs" / "f5_tts" / "f5_base.surg"
RUNS = 7

plan, peft = alternating(
    RUNS,
    lambda: process_cpu([sys.executable, "-m", "surgery", "plan", str(SPEC)]),
    lambda: process_cpu([sys.executable, "-c", "import peft"]),
)
print(shown("surgery plan specs/f5_tts/f5_base.surg", plan))
print(shown('python -c "import peft"', peft))
print(f"ratio of the medians: {statistics.median(plan) / statistics.median(peft):.3f}")
