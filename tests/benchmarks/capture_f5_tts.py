"""Building and recording F5TTS_v1_Base, against `torch.export` of the same model; imports not counted."""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "standins"))

import f5_tts.model  # noqa: E402, F401
import torch  # noqa: E402
from measure import alternating, shown  # noqa: E402
from torch._subclasses.fake_tensor import FakeTensorMode  # noqa: E402

import surgery  # noqa: E402
from surgery.capturing import capture_spec  # noqa: E402
from surgery.capturing.build import construct, example_inputs  # noqa: E402

SPEC = surgery.load(HERE.parents[1] / "specs" / "f5_tts" / "f5_base.surg")


def captured() -> float:
    start = time.process_time()
    graph = capture_spec(SPEC)
    graph.save(Path(tempfile.gettempdir()) / "surgery-benchmark.graph.json")
    return time.process_time() - start


def exported() -> float:
    start = time.process_time()
    with FakeTensorMode(allow_non_fake_inputs=True):
        model = construct(SPEC).eval()
        args, kwargs = example_inputs(SPEC)
        torch.export.export(model, args, kwargs, strict=False)
    return time.process_time() - start


captures, exports = alternating(3, captured, exported)
print(shown("surgery capture: build, record, facts, file", captures))
print(shown("torch.export, non-strict, on fake tensors", exports))
file = Path(tempfile.gettempdir()) / "surgery-benchmark.graph.json"
print(f"graph file {file.stat().st_size / 1000:.0f} kB")
file.unlink()
