"""Swapping adapters of a running model: this package's runtime against PEFT, from the same files, in one process.

    python tests/benchmarks/swap_against_peft.py [--runs 9]

CPU seconds of this process, medians; each figure is measured in turn with the one it is compared with.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from measure import alternating
from mixture import Mixture
from peft import LoraConfig, get_peft_model
from peft.utils.hotswap import hotswap_adapter, prepare_model_for_compiled_hotswap
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM

import surgery
from surgery.inject import save_adapters

RANKS = {"one": 8, "two": 8}


def llama() -> tuple[nn.Module, str]:
    """84 targets: 12 layers, 512 wide."""
    config = LlamaConfig(hidden_size=512, intermediate_size=1024, num_hidden_layers=12, num_attention_heads=8)
    return LlamaForCausalLM(config), "model.layers.*.{self_attn,mlp}.*_proj"


def mixture() -> tuple[nn.Module, str]:
    """6,176 targets: 8 blocks of 256 experts, 64 wide."""
    return Mixture(blocks=8, experts=256, width=64, inner=32, picks=2, heads=4, vocabulary=64), "layers.*.**.*_proj"


def planned(model: nn.Module, select: str, folder: Path) -> Any:
    """The plan of LoRA on every linear that the glob selects, whether the example call routes a token to it or not."""
    file = folder / "swap.surg"
    file.write_text(f'surg 1\ntarget default {{ select path("{select}") & kind(Linear) lora {{ r = 8 }} }}\n')
    graph = surgery.capture(model, kwargs={"input_ids": torch.zeros(1, 512, dtype=torch.long)})
    plan = surgery.plan(surgery.load(file), graph)
    assert plan.applyable, plan.diagnostics
    return plan


def seconds(call: Callable[[], object]) -> Callable[[], float]:
    def measure() -> float:
        start = time.process_time()
        call()
        return time.process_time() - start

    return measure


def compare(what: str, runs: int, ours: Callable[[], object], peft: Callable[[], object]) -> None:
    ours(), peft()
    mine, theirs = (statistics.median(found) for found in alternating(runs, seconds(ours), seconds(peft)))
    print(f"  {what:<52} {1e3 * mine:9.2f} ms  PEFT {1e3 * theirs:9.2f} ms  {mine / theirs:6.3f} of it")


def both(build: Callable[[], tuple[nn.Module, str]], folder: Path, runs: int) -> None:
    torch.manual_seed(0)
    model, select = build()
    plan = planned(model, select, folder)
    print(f"{build.__name__}: {len(plan.sites):,} targets, LoRA r = 8")
    config = LoraConfig(r=8, lora_alpha=8, target_modules=[site.path for site in plan.sites])
    theirs = get_peft_model(build()[0], config)
    adapted = surgery.apply(model, plan)
    folders = {name: folder / build.__name__ / name for name in ("one", "two")}
    for path in folders.values():
        for parameter in adapted.parameters():
            if parameter.requires_grad:
                nn.init.normal_(parameter)
        save_adapters(adapted, plan, path)
    runtime = surgery.Runtime(adapted, plan)
    swaps(runtime, theirs, folders, runs, "unprepared")
    runtime.prepare(16)
    prepare_model_for_compiled_hotswap(theirs, target_rank=16)
    swaps(runtime, theirs, folders, runs, "prepared for rank 16")
    toggles(runtime, theirs, folders, runs)


def swaps(runtime: Any, theirs: Any, folders: dict[str, Path], runs: int, how: str) -> None:
    """Replace the adapter in the model by one on disk: configuration and tensors read, checked and copied."""
    mine = turning(list(folders.values()))
    others = turning([str(path) for path in folders.values()])
    compare(
        f"replace from disk, hotswap_adapter; {how}",
        runs,
        lambda: runtime.replace("default", next(mine)),
        lambda: hotswap_adapter(theirs, next(others), "default", torch_device="cpu"),
    )


def toggles(runtime: Any, theirs: Any, folders: dict[str, Path], runs: int) -> None:
    """Off and on, and between two adapters in memory."""

    def off_and_on() -> None:
        with theirs.disable_adapter():
            pass

    compare("disable and enable, disable_adapter()", runs, lambda: (runtime.disable(), runtime.enable()), off_and_on)
    theirs.add_adapter("two", theirs.peft_config["default"])
    runtime.load("two", folders["two"])
    mine, others = turning(["two", "default"]), turning(["two", "default"])
    compare("switch, set_adapter", runs, lambda: runtime.switch(next(mine)), lambda: theirs.set_adapter(next(others)))


def turning(items: list[Any]) -> Any:
    while True:
        yield from items


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--runs", type=int, default=9)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as directory:
        for make in (llama, mixture):
            both(make, Path(directory), arguments.runs)
