"""Capture, file and planning of Llama at the width of 3.1 405B and four depths, 126 blocks the last."""

from __future__ import annotations

import resource
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path

import transformers  # noqa: F401  its import is not what is measured

import surgery
from surgery.capturing import capture_spec
from surgery.planning import plan

SPEC = """surg 1
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

with tempfile.TemporaryDirectory() as folder:
    path = Path(folder) / "llama.surg"
    path.write_text(SPEC, encoding="utf-8")
    print(f"{'blocks':>6} {'modules':>8} {'ops':>7} {'capture':>9} {'file':>9} {'read':>8} {'plan':>8}")
    for blocks in (16, 32, 63, 126):
        spec = surgery.load(path, blocks=blocks)
        times = [time.process_time()]
        graph = capture_spec(spec)
        times.append(time.process_time())
        graph.save(spec.graph_path)
        times.append(time.process_time())
        graph = surgery.read_graph(spec.graph_path)
        times.append(time.process_time())
        made = plan(spec, graph)
        times.append(time.process_time())
        assert len(made.sites) == 7 * blocks
        capture, _, read, planned = (after - before for before, after in pairwise(times))
        size = spec.graph_path.stat().st_size / 1000
        print(
            f"{blocks:>6} {len(graph):>8} {len(graph.nodes):>7} {capture:>7.2f} s {size:>6.0f} kB"
            f" {read:>6.3f} s {planned:>6.3f} s"
        )
    unit = 1024 if sys.platform != "darwin" else 1
    print(f"peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6:,.0f} MB")
