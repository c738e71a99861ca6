"""Models that convert their modules while they run, or while they are built."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode

import surgery
from surgery.capturing import capture_spec
from surgery.capturing.conversion import converting_fake_modules


def test_a_large_module_is_converted_while_it_is_built() -> None:
    before = nn.Module._apply
    with FakeTensorMode(), converting_fake_modules():
        layer = nn.Linear(2**20, 2**20)
        kept = [layer.weight, layer.bias]  # references that torch would count
        layer.half()
    assert {parameter.dtype for parameter in layer.parameters()} == {torch.float16}
    assert all(isinstance(parameter, nn.Parameter) and parameter.requires_grad for parameter in layer.parameters())
    assert all(isinstance(parameter, FakeTensor) for parameter in kept)
    assert nn.Module._apply is before


def test_real_modules_are_converted_as_ever() -> None:
    layer = nn.Linear(2, 2)
    weight = layer.weight
    with converting_fake_modules():
        layer.half()
    assert layer.weight is weight
    assert weight.dtype is torch.float16


def test_a_module_converted_within_a_forward_is_captured_the_same_each_time(tmp_path: Path) -> None:
    (tmp_path / "routed.surg").write_text(
        "surg 1\n"
        "model transformers:SwitchTransformersModel {\n"
        "  config = transformers:SwitchTransformersConfig { vocab_size = 50  d_model = 16  d_kv = 8  d_ff = 24\n"
        "    num_heads = 2  num_layers = 2  num_decoder_layers = 2  num_sparse_encoder_layers = 1\n"
        "    num_sparse_decoder_layers = 1  num_experts = 4 }\n"
        "}\n"
        "inputs { input_ids = i64[2, 6] < 50  decoder_input_ids = i64[2, 4] < 50 }\n",
        encoding="utf-8",
    )
    spec = surgery.load(tmp_path / "routed.surg")
    assert capture_spec(spec).fingerprint == capture_spec(spec).fingerprint
