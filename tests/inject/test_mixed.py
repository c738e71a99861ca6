"""Several methods in one model: every pair that PEFT mixes, trained together, each reloaded alone by plain PEFT."""

from __future__ import annotations

from copy import deepcopy
from itertools import combinations

import pytest
import torch
from peft import PeftMixedModel, PeftModel
from transformers import LlamaConfig, LlamaModel

from surgery.inject import apply, base_model
from surgery.inject.directory import save_adapters
from surgery.inject.state import trainable_tensors, tuner_of
from surgery.methods import METHODS
from surgery.verifying import verify

SMALL = {
    "lora": {"r": 4, "alpha": 4},
    "loha": {"r": 2, "alpha": 2},
    "lokr": {"r": 2, "alpha": 2, "decompose_factor": 4},
    "adalora": {"init_r": 4, "target_r": 2, "total_step": 10},
    "oft": {"block_size": 4},
    "shira": {"r": 2, "random_seed": 0},
}
PAIRS = list(combinations([name for name, method in METHODS.items() if method.mixes], 2))
pytestmark = [pytest.mark.heavy, pytest.mark.filterwarnings("ignore")]


def llama() -> LlamaModel:
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
    return LlamaModel(LlamaConfig(vocab_size=50, **sizes)).eval()


def outputs(model: torch.nn.Module, ids: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return model(input_ids=ids).last_hidden_state


@pytest.mark.parametrize(("one", "other"), PAIRS, ids="-".join)
def test_two_methods_train_together_and_load_alone(one, other, plan_for, tmp_path):
    base = llama()
    original = deepcopy(base)
    ids = torch.arange(12).reshape(2, 6)
    attention = [f"layers.{block}.self_attn.{name}" for block in (0, 1) for name in ("q_proj", "v_proj")]
    plan = plan_for(
        base,
        {
            "attention": (one, SMALL[one], attention),
            "feed_forward": (other, SMALL[other], [f"layers.{block}.mlp.down_proj" for block in (0, 1)]),
        },
    )
    model = apply(base, plan)
    assert isinstance(model, PeftMixedModel)
    verify(model, plan, {"input_ids": ids})
    with torch.no_grad():
        for number, tensor in enumerate(trainable_tensors(model, plan)):
            generator = torch.Generator().manual_seed(number)
            tensor.add_(torch.randn(tensor.shape, generator=generator) * 0.05)
    save_adapters(model, plan, tmp_path / "run")
    together = outputs(model, ids)
    for name in ("attention", "feed_forward"):
        alone = outputs(PeftModel.from_pretrained(deepcopy(original), str(tmp_path / "run" / name)).eval(), ids)
        tuner_of(model).set_adapter([name])
        assert torch.allclose(alone, outputs(model, ids), atol=1e-5), name
        assert not torch.allclose(alone, together, atol=1e-5)
    for name, parameter in original.named_parameters():
        path, _, leaf = name.rpartition(".")
        module = base_model(model).get_submodule(path)
        assert torch.equal(getattr(module, "base_layer", module).get_parameter(leaf), parameter), name
