"""Capture, file and planning at four sizes each: Llama at the width of 3.1 405B, and a mixture of 47,000 linears."""

from __future__ import annotations

import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

LLAMA = """surg 1
param blocks: int = 126
model transformers:LlamaForCausalLM {
  config = transformers:LlamaConfig {
    vocab_size = 128256  hidden_size = 16384  intermediate_size = 53248
    num_hidden_layers = blocks  num_attention_heads = 128  num_key_value_heads = 8
  }
}
inputs { input_ids = i64[2, 16] < 128256 }
target linears {
  select role(attention_query, attention_key, attention_value, attention_output, feedforward_in, feedforward_out)
  expect 7 * blocks
  lora { r = 16  alpha = 16 }
}
"""
MIXTURE = """surg 1
param blocks: int = 61
model mixture:Mixture { blocks = blocks }
inputs { input_ids = i64[2, 8] < 1000 }
target experts {
  select path("layers.*.mlp.experts.*.{gate_proj,up_proj,down_proj}")
  expect 3 * 256 * blocks
  lora { r = 16  alpha = 16 }
}
"""
CASES = {"llama": (LLAMA, (16, 32, 63, 126)), "mixture": (MIXTURE, (8, 15, 30, 61))}


def main() -> None:
    """Each size in a process of its own, so that peak memory is that size's."""
    print(
        f"{'model':>8} {'blocks':>6} {'modules':>8} {'ops':>7} {'capture':>9} {'memory':>9} {'file':>9} {'read':>8}"
        f" {'plan':>8} {'unknown':>8}",
        flush=True,
    )
    for name, (_, sizes) in CASES.items():
        for blocks in sizes:
            subprocess.run([sys.executable, __file__, name, str(blocks)], check=True)


def measure(name: str, blocks: int) -> None:
    """One row: CPU seconds of capture, and, in a process of its own without torch, of reading and of planning."""
    import torch  # noqa: F401  imports are not what is measured
    import transformers  # noqa: F401

    import surgery
    from surgery.capturing import capture_spec

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.surg"
        path.write_text(CASES[name][0], encoding="utf-8")
        spec = surgery.load(path, blocks=blocks)
        before = time.process_time()
        graph = capture_spec(spec)
        capture = time.process_time() - before
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
        graph.save(spec.graph_path)
        unknown = sum(module.unreached.answer == "unknown" for module in graph.modules.values())
        print(
            f"{name:>8} {blocks:>6} {len(graph):>8} {len(graph.nodes):>7} {capture:>7.2f} s {memory / 1e6:>6.0f} MB"
            f" {spec.graph_path.stat().st_size / 1000:>6.0f} kB",
            end="",
            flush=True,
        )
        subprocess.run([sys.executable, __file__, "--plan", str(path), str(blocks)], check=True)
        print(f" {unknown:>8}", flush=True)


def plan_on(path: str, blocks: int) -> None:
    """CPU seconds of reading the graph of a spec, and of planning on it."""
    import surgery
    from surgery.planning import plan

    spec = surgery.load(Path(path), blocks=blocks)
    start = time.process_time()
    graph = surgery.read_graph(spec.graph_path)
    read = time.process_time()
    made = plan(spec, graph)
    end = time.process_time()
    assert made.applyable, made.diagnostics
    assert "torch" not in sys.modules
    print(f" {read - start:>6.3f} s {end - read:>6.3f} s", end="", flush=True)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--plan"]:
        plan_on(sys.argv[2], int(sys.argv[3]))
    elif len(sys.argv) > 1:
        measure(sys.argv[1], int(sys.argv[2]))
    else:
        main()
