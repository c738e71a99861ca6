"""What matching costs PEFT: from a configuration to the matched sites of a mixture of experts with 16 blocks.

The same steps that `BaseTuner.inject_adapter` takes: resolving `all-linear`, condensing a long list, one match a name.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import inject_models
from peft import LoraConfig
from peft.tuners.tuners_utils import (
    _find_minimal_target_modules,
    _maybe_include_all_linear_layers,
    check_target_module_exists,
)
from torch import nn

from surgery.inject.patterns import exactly

RUNS = 3


def main() -> None:
    """Medians; the ways take turns."""
    model = inject_models.model("16")
    paths = inject_models.targets(model)
    names = [name for name, _ in model.named_modules() if name]
    pattern = exactly(paths)
    ways: dict[str, Callable[[], int]] = {
        "this package's pattern, made": lambda: len(exactly(paths)),
        "this package's pattern, matched": lambda: matched(LoraConfig(target_modules=pattern), names),
        "list of the last names": lambda: matched(LoraConfig(target_modules=sorted({last(p) for p in paths})), names),
        "list of the full paths": lambda: matched(condensed(LoraConfig(target_modules=paths), names), names),
        "all-linear": lambda: matched(all_linear(model, names), names),
    }
    rows = [{way: seconds(act) for way, act in ways.items()} for _ in range(RUNS)]
    for way in ways:
        print(f"{way:<34} {statistics.median(row[way] for row in rows):7.3f} s CPU")
    print(f"{len(names):,} modules, {len(paths):,} targets, a pattern of {len(pattern)} characters:\n{pattern}")


def seconds(act: Callable[[], int]) -> float:
    start = time.process_time()
    act()
    return time.process_time() - start


def last(path: str) -> str:
    return path.rpartition(".")[2]


def matched(config: LoraConfig, names: list[str]) -> int:
    return sum(bool(check_target_module_exists(config, name)) for name in names)


def condensed(config: LoraConfig, names: list[str]) -> LoraConfig:
    wanted = set(config.target_modules or ())
    suffixes = tuple(f".{name}" for name in wanted)
    # PEFT asks `endswith` of all suffixes for each name; the condensed list is the same without what they match.
    others = [name for name in names if name not in wanted and not name.endswith(suffixes)]
    config.target_modules = _find_minimal_target_modules(wanted, others)
    return config


def all_linear(model: nn.Module, names: list[str]) -> LoraConfig:
    return condensed(_maybe_include_all_linear_layers(LoraConfig(target_modules="all-linear"), model), names)


if __name__ == "__main__":
    main()
