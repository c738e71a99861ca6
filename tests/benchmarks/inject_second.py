"""A second adapter on the mixture of experts at four sizes: growth with the number of targets, against PEFT's."""

from __future__ import annotations

import subprocess
import sys
import time
import warnings

SIZES = (2, 4, 8, 16)  # blocks of 772 targets each


def main() -> None:
    """Each run in a process of its own: one of PEFT's takes a minute at the largest size."""
    print(f"{'targets':>8} {'surgery':>9} {'PEFT':>9} {'ratio':>7}")
    for blocks in SIZES:
        targets, own = _run(blocks, "surgery")
        _, plain = _run(blocks, "peft")
        print(f"{targets:>8.0f} {own:>7.3f} s {plain:>7.3f} s {plain / own:>6.1f}x", flush=True)
    print("CPU seconds of `surgery.inject.add_adapter` and of `PeftModel.add_adapter`, base on meta")


def _run(blocks: int, side: str) -> tuple[float, float]:
    done = subprocess.run([sys.executable, __file__, str(blocks), side], check=True, capture_output=True, text=True)
    targets, seconds = map(float, done.stdout.split())
    return targets, seconds


def measure(blocks: str, side: str) -> None:
    """Number of targets, and CPU seconds of adding the second adapter to all of them."""
    import inject_models
    from peft import LoraConfig

    import surgery
    from surgery.inject import add_adapter

    warnings.simplefilter("ignore")
    model = inject_models.model(blocks)
    paths = inject_models.targets(model)
    plan = inject_models.plan(model, paths)
    adapted = surgery.apply(model, plan)
    config = LoraConfig(r=inject_models.RANK, target_modules=sorted({path.rpartition(".")[2] for path in paths}))
    start = time.process_time()
    if side == "surgery":
        add_adapter(adapted, plan.sites, "second")
    else:
        adapted.add_adapter("second", config)
    print(len(paths), time.process_time() - start)


if __name__ == "__main__":
    measure(*sys.argv[1:]) if len(sys.argv) > 1 else main()
