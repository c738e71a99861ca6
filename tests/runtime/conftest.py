"""A real model, and adapters of it on disk: as after training, each with what a fresh model computes with it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM

import surgery
from surgery.inject import save_adapters

LINEARS = 'path("model.layers.*.{self_attn,mlp}.*_proj")'  # 14 in the small Llama
ATTENTION = 'path("model.layers.*.self_attn.*_proj")'  # 8 of them


def llama(layers: int = 2) -> nn.Module:
    torch.manual_seed(0)
    config = LlamaConfig(
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        vocab_size=64,
    )
    return LlamaForCausalLM(config).eval()


def tokens() -> dict[str, Any]:
    return {"input_ids": torch.arange(24).reshape(2, 12)}


def outputs(model: nn.Module, inputs: dict[str, Any]) -> torch.Tensor:
    with torch.no_grad():
        result = model(**inputs)
    return result if isinstance(result, torch.Tensor) else result[0]


def moved(adapted: nn.Module, seed: int) -> nn.Module:
    """Every trainable parameter random, as after training."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in adapted.parameters():
            if parameter.requires_grad:
                noise = torch.randn(parameter.shape, generator=generator)
                parameter.add_(0.2 * noise.to(parameter.dtype))
    return adapted


@dataclass
class Saved:
    """An adapter of the model: its plan, its folder, and the outputs of a fresh, uncompiled model with it."""

    plan: Any
    folder: Path
    expected: torch.Tensor


class Adapters:
    """Adapters of one model, planned on one graph."""

    def __init__(self, build: Callable[[], nn.Module], inputs: dict[str, Any], folder: Path) -> None:
        self.build, self.inputs, self._folder = build, inputs, folder
        self.graph = surgery.capture(build(), kwargs=inputs)
        self.base = outputs(build(), inputs)

    def plan(self, method: str, select: str = LINEARS, more: str = "") -> Any:
        """The plan of one target, `method` on `select`, and of further statements."""
        return self.plan_of(f"target a {{ select {select} {method} }}\n{more}")

    def plan_of(self, statements: str) -> Any:
        file = self._folder / "case.surg"
        file.write_text(f"surg 1\n{statements}")
        return surgery.plan(surgery.load(file), self.graph)

    def adapted(self, plan: Any) -> Any:
        return surgery.apply(self.build(), plan)

    def outputs(self, model: nn.Module) -> torch.Tensor:
        return outputs(model, self.inputs)

    def saved(self, name: str, plan: Any, seed: int = 1) -> Saved:
        """An adapter of this plan, as after training, in a folder."""
        model = moved(self.adapted(plan), seed).eval()
        folder = self._folder / name
        save_adapters(model, plan, folder)
        return Saved(plan, folder, outputs(model, self.inputs))


@pytest.fixture
def adapters_of(tmp_path: Path) -> Callable[..., Adapters]:
    """`adapters_of(build, inputs)`: adapters of another model."""
    return lambda build, inputs: Adapters(build, inputs, tmp_path)


@pytest.fixture
def adapters(tmp_path: Path) -> Adapters:
    """Those of a small Llama, of 14 linears."""
    return Adapters(llama, tokens(), tmp_path)
