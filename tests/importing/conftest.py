"""Adapters that plain PEFT made on real models, and the same models under a plan of surgery's, to import them into."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import peft
import pytest
import torch
from diffusers import FluxTransformer2DModel, UNet2DConditionModel
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM

import surgery
from surgery.inject import adapter_state, base_model


def flux() -> nn.Module:
    return FluxTransformer2DModel(
        in_channels=4,
        num_layers=2,
        num_single_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=24,
        pooled_projection_dim=20,
        axes_dims_rope=(4, 4, 8),
    )


def flux_inputs() -> dict[str, Any]:
    return {
        "hidden_states": torch.randn(1, 6, 4),
        "encoder_hidden_states": torch.randn(1, 5, 24),
        "pooled_projections": torch.randn(1, 20),
        "timestep": torch.rand(1),
        "img_ids": torch.zeros(6, 3),
        "txt_ids": torch.zeros(5, 3),
    }


def unet() -> nn.Module:
    return UNet2DConditionModel(
        sample_size=8,
        in_channels=4,
        out_channels=4,
        layers_per_block=1,
        block_out_channels=(16, 32),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=12,
        attention_head_dim=8,
        norm_num_groups=4,
    )


def unet_inputs() -> dict[str, Any]:
    return {
        "sample": torch.randn(1, 4, 8, 8),
        "timestep": torch.tensor([3]),
        "encoder_hidden_states": torch.randn(1, 5, 12),
    }


def llama() -> nn.Module:
    sizes = {"hidden_size": 24, "intermediate_size": 40, "num_attention_heads": 4, "num_key_value_heads": 2}
    return LlamaForCausalLM(LlamaConfig(num_hidden_layers=2, vocab_size=50, tie_word_embeddings=False, **sizes))


MODELS = {
    "flux": (flux, flux_inputs, "transformer_blocks.*.attn.{to_q,to_k,to_out.0}"),
    "unet": (unet, unet_inputs, "**.{conv1,attn2.to_q,attn2.to_out.0,proj_in}"),
    "llama": (llama, lambda: {"input_ids": torch.arange(6)[None]}, "model.layers.*.self_attn.{q_proj,v_proj}"),
}


@cache
def captured(name: str) -> Any:
    build, inputs, _ = MODELS[name]
    torch.manual_seed(1)
    return surgery.capture(build().eval(), kwargs=inputs())


@dataclass
class Case:
    """`source` is plain PEFT's model with a trained-like adapter, `target` the same base under `plan`, still fresh."""

    name: str
    plan: Any
    source: Any
    target: Any

    @property
    def paths(self) -> list[str]:
        return [site.path for site in self.plan.sites]

    def source_tensors(self) -> dict[str, torch.Tensor]:
        """The source's adapter by the plan's paths: `blocks.0.to_q.lora_A.weight`, without any prefix."""
        state = peft.get_peft_model_state_dict(self.source)
        return {key.removeprefix("base_model.model."): tensor for key, tensor in state.items()}

    def target_tensors(self) -> dict[str, torch.Tensor]:
        return {k: t for tensors in adapter_state(self.target, self.plan).values() for k, t in tensors.items()}

    def assert_equal_updates(self, factor: float = 1.0) -> None:
        """Every module's delta-W, and the outputs of one call, are those of the source (in float32)."""
        for path in self.paths:
            wanted, found = (delta(base_model(m).get_submodule(path)) for m in (self.source, self.target))
            torch.testing.assert_close(found, factor * wanted, rtol=1e-5, atol=1e-6)
        if factor == 1.0:
            torch.testing.assert_close(output(self, self.target), output(self, self.source), rtol=1e-4, atol=1e-4)


def delta(layer: BaseTunerLayer) -> torch.Tensor:
    [adapter] = layer.active_adapters
    with torch.no_grad():
        return layer.get_delta_weight(adapter)


def output(case: Case, model: nn.Module) -> torch.Tensor:
    torch.manual_seed(1)
    with torch.no_grad():
        return model.eval()(**MODELS[case.name][1](), return_dict=False)[0]


@pytest.fixture
def make(tmp_path):
    """`make("flux", config, "lora { r = 4 }")`: the source by a PEFT configuration, the plan by a method of a spec.

    The configuration gets the plan's modules as its targets.
    """

    def made(name: str, config: peft.PeftConfig, method: str, **plan: Any) -> Case:
        build, _, select = MODELS[name]
        file = tmp_path / "case.surg"
        file.write_text(f'surg 1\ntarget a {{ select path("{plan.get("select", select)}") {method} }}\n')
        planned = surgery.plan(surgery.load(file), captured(name))
        assert planned.applyable, planned.diagnostics
        torch.manual_seed(0)
        base = build().eval()
        weights = base.state_dict()
        config.target_modules = [site.path for site in planned.sites]
        source = peft.get_peft_model(base, config).eval()
        torch.manual_seed(2)
        with torch.no_grad():
            for parameter in source.parameters():
                if parameter.requires_grad:
                    parameter.add_(0.2 * torch.randn_like(parameter))
        other = build().eval()
        other.load_state_dict(weights)
        return Case(name, planned, source, surgery.apply(other, planned))

    return made


SEVERAL = """surg 1
target q { select path("model.layers.*.self_attn.q_proj") lora { r = 4 } }
target v { select path("model.layers.*.self_attn.v_proj") loha { r = 2 } }
train { select path("lm_head") }
"""


@pytest.fixture
def make_several(tmp_path):
    """A plan of two adapters and a trained module, the same model under it twice, the first one trained-like."""

    def made():
        file = tmp_path / "several.surg"
        file.write_text(SEVERAL)
        plan = surgery.plan(surgery.load(file), captured("llama"))
        source, target = (surgery.apply(llama().eval(), plan) for _ in range(2))
        torch.manual_seed(2)
        with torch.no_grad():
            for tensors in adapter_state(source, plan).values():
                for tensor in tensors.values():
                    tensor.add_(0.2 * torch.randn_like(tensor))
        return plan, source, target

    return made
