"""`surgery.apply` against `get_peft_model`: Llama at two sizes and a mixture of 47,000 linears, on meta.

What `apply` does besides is in its figure: the checks beforehand, the snapshot, the comparison with the plan.
"""

from __future__ import annotations

import gc
import statistics
import subprocess
import sys
import time
import warnings

SIDES = ("surgery", "peft", "peft-best")
CASES = {"Llama-8B": ("Llama-8B", 7), "Llama-405B": ("Llama-405B", 5), "mixture, 61 x 256 x 3": ("61", 3)}


def main() -> None:
    """Each run in a process of its own, the sides taking turns."""
    print(f"{'model':<22} {'targets':>7} {'surgery':>9} {'PEFT':>9} {'ratio':>6} {'PEFT at its best':>17} {'ratio':>6}")
    for title, (name, runs) in CASES.items():
        rows = [[_run(name, side) for side in SIDES] for _ in range(runs)]
        own, plain, best = (statistics.median(float(row[at][1]) for row in rows) for at in range(3))
        print(
            f"{title:<22} {rows[0][0][0]:>7} {own:>7.3f} s {plain:>7.3f} s {plain / own:>5.1f}x"
            f" {best:>15.3f} s {best / own:>5.1f}x",
            flush=True,
        )
    print("CPU seconds, medians; PEFT at its best: low_cpu_mem_usage=True, garbage collector off")


def _run(name: str, side: str) -> list[str]:
    done = subprocess.run([sys.executable, __file__, name, side], check=True, capture_output=True, text=True)
    return done.stdout.split()


def measure(name: str, side: str) -> None:
    """Number of targets and CPU seconds of one injection."""
    import inject_models
    from peft import LoraConfig, get_peft_model

    import surgery

    warnings.simplefilter("ignore")
    model = inject_models.model(name)
    paths = inject_models.targets(model)
    if side == "surgery":
        plan, apply = inject_models.plan(model, paths), surgery.apply
        start = time.process_time()
        apply(model, plan)
    else:
        config = LoraConfig(r=inject_models.RANK, target_modules=sorted({path.rpartition(".")[2] for path in paths}))
        best = side == "peft-best"
        if best:
            gc.disable()
        start = time.process_time()
        get_peft_model(model, config, low_cpu_mem_usage=best)
    print(len(paths), time.process_time() - start)


if __name__ == "__main__":
    measure(*sys.argv[1:]) if len(sys.argv) > 1 else main()
