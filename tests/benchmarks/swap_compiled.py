"""How often a compiled model is compiled over 20 swaps between adapters of three ranks: the runtime against PEFT.

    python tests/benchmarks/swap_compiled.py

Frames that torch.compile hands to its backend, on a Llama of 2 layers (14 targets); the backend runs them as they are.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from peft.utils.hotswap import hotswap_adapter, prepare_model_for_compiled_hotswap
from swap_against_peft import planned
from torch._dynamo.testing import CompileCounter
from transformers import LlamaConfig, LlamaForCausalLM

import surgery

RANKS = (4, 8, 16)
IDS = torch.arange(24).reshape(2, 12)
Swap = Callable[[str], object]


def base() -> Any:
    torch.manual_seed(0)
    config = LlamaConfig(
        hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4, vocab_size=64
    )
    return LlamaForCausalLM(config).eval()


def frames(model: Any, swap: Swap, off: Callable[[], object] | None = None) -> int:
    """Frames compiled in 20 swaps, every fourth with the adapters off for one call."""
    torch._dynamo.reset()
    counter = CompileCounter()
    compiled = torch.compile(model, backend=counter)
    with torch.no_grad(), torch._dynamo.config.patch(recompile_limit=64):
        compiled(IDS)
        for turn in range(20):
            swap(str(RANKS[turn % 3]))
            compiled(IDS)
            if off and turn % 4 == 0:
                with off():
                    compiled(IDS)
    return counter.frame_count


def ours(folder: Path) -> int:
    model = base()
    plan = planned(model, "model.layers.*.{self_attn,mlp}.*_proj", folder)
    adapted = surgery.apply(model, plan)
    runtime = surgery.Runtime(adapted, plan)
    runtime.prepare(16)
    for rank in RANKS:
        runtime.load(str(rank), folder / str(rank))

    @contextmanager
    def off() -> Iterator[None]:
        runtime.disable()
        yield
        runtime.enable()

    return frames(adapted, runtime.switch, off)


def theirs(folder: Path, *, prepared: bool) -> Any:
    model = PeftModel.from_pretrained(base(), str(folder / "4")).eval()
    if prepared:
        prepare_model_for_compiled_hotswap(model, target_rank=16)
    return model


def main() -> None:
    with tempfile.TemporaryDirectory() as directory:
        folder = Path(directory)
        targets = r"model\.layers\.\d\.(self_attn|mlp)\..*_proj"
        for rank in RANKS:
            config = LoraConfig(r=rank, lora_alpha=2 * rank + 1, target_modules=targets, init_lora_weights=False)
            get_peft_model(base(), config).save_pretrained(folder / str(rank))
        print(f"surgery.Runtime, prepared; on and off too             {ours(folder):3}")
        for prepared, off in ((True, False), (True, True), (False, False)):
            model = theirs(folder, prepared=prepared)

            def swap(name: str, model: Any = model) -> None:
                hotswap_adapter(model, str(folder / name), "default", torch_device="cpu")

            what = (
                f"hotswap_adapter, {'prepared' if prepared else 'not prepared'}{'; disable_adapter too' if off else ''}"
            )
            print(f"{what:<52}  {frames(model, swap, model.disable_adapter if off else None):3}")
        model = theirs(folder, prepared=False)
        for rank in RANKS:
            model.load_adapter(str(folder / str(rank)), str(rank))
        print(f"{'set_adapter':<52}  {frames(model, model.set_adapter):3}")


if __name__ == "__main__":
    main()
