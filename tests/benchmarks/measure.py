"""CPU seconds of whole processes, and how to show them."""

from __future__ import annotations

import resource
import statistics
import subprocess
import sys
from collections.abc import Callable, Sequence


def process_cpu(command: Sequence[str]) -> float:
    """User and system CPU seconds of one run of a command, its children included."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    result = subprocess.run(command, capture_output=True, check=False)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if result.returncode not in (0, 2):  # `surgery plan` says 2 where the plan differs from the lock
        sys.exit(result.stderr.decode())
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def alternating(runs: int, *measures: Callable[[], float]) -> list[list[float]]:
    """Each measure `runs` times, taking turns, so that a busy moment falls on all of them."""
    rows = [[measure() for measure in measures] for _ in range(runs)]
    return [list(column) for column in zip(*rows, strict=True)]


def shown(name: str, seconds: Sequence[float]) -> str:
    low, high = min(seconds), max(seconds)
    return f"{name:<44} {statistics.median(seconds):7.3f} s CPU (of {len(seconds)}: {low:.3f} to {high:.3f})"
