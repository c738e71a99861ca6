"""Which weight of fused experts has which role, on architectures that hold them in different ways."""

from __future__ import annotations

from pathlib import Path

import pytest
from labelled import captured

import surgery

STACKED = {"feedforward_in": ("gate_up_proj",), "feedforward_out": ("down_proj",), "residual_output": ("down_proj",)}
FUSED = {
    "transformers/mixtral": STACKED,
    "transformers/qwen2_moe": STACKED,
    "transformers_held_out/gpt_oss": STACKED,  # (experts, in, out), with biases beside
    "text_held_out/llama4": STACKED,  # (experts, in, out), all experts in one product
    # transformers/models/dbrx/modeling_dbrx.py: each expert takes rows of three matrices.
    "text_held_out/dbrx": {"feedforward_in": ("w1", "v1"), "feedforward_out": ("w2",), "residual_output": ("w2",)},
}


@pytest.mark.heavy
@pytest.mark.parametrize("name", FUSED)
def test_roles_of_the_weights(name: str, tmp_path: Path) -> None:
    graph = captured(name)
    experts = {path: module for path, module in graph.modules.items() if len(module.weights) > 1}
    assert experts
    for path, module in experts.items():
        assert dict(module.role_parameters) == FUSED[name], path
    graph.save(tmp_path / "again.graph.json")
    assert dict(surgery.read_graph(tmp_path / "again.graph.json").modules) == dict(graph.modules)
