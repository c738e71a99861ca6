"""Configurations of PEFT: what they say to PEFT, also where PEFT rewrites them."""

import copy
import warnings

import pytest
import torch
from peft import PeftModel
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import nn
from transformers import DeepseekV3Config, DeepseekV3ForCausalLM, Qwen3MoeConfig, Qwen3MoeForCausalLM

from surgery.diagnostics import SurgeryError
from surgery.inject import apply, base_model
from surgery.inject.lowering import lower

SIZES = {
    "vocab_size": 64,
    "hidden_size": 32,
    "intermediate_size": 48,
    "moe_intermediate_size": 16,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}


def qwen_moe():
    torch.manual_seed(0)
    return Qwen3MoeForCausalLM(Qwen3MoeConfig(**SIZES, num_experts=4, num_experts_per_tok=2)).eval()


def deepseek():
    torch.manual_seed(0)
    sizes = SIZES | {"num_key_value_heads": 4, "n_routed_experts": 4, "num_experts_per_tok": 2, "n_group": 2}
    return DeepseekV3ForCausalLM(DeepseekV3Config(**sizes, topk_group=1, first_k_dense_replace=2)).eval()


def adapted_paths(model):
    return {path for path, module in model.named_modules() if isinstance(module, BaseTunerLayer)}


def test_on_a_model_whose_experts_are_fused_only_the_planned_layers_are_adapted(plan_for, tmp_path):
    """PEFT makes a list of last names of the pattern there, which would take every layer's projections."""
    model, ids = qwen_moe(), torch.arange(12).reshape(2, 6)
    paths = [f"model.layers.{i}.self_attn.{name}" for i in (0, 2) for name in ("q_proj", "v_proj")]
    plan = plan_for(model, {"default": ("lora", {"r": 4}, paths)})
    config = lower(model, plan)[0].config
    adapted = apply(model, plan)
    assert adapted_paths(base_model(adapted)) == set(paths)
    assert adapted.peft_config["default"].target_modules == config.target_modules
    assert not adapted.peft_config["default"].target_parameters
    for parameter in adapted.parameters():
        if parameter.requires_grad:
            nn.init.normal_(parameter, std=0.1)
    adapted.save_pretrained(tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        loaded = PeftModel.from_pretrained(qwen_moe(), tmp_path)
    assert adapted_paths(loaded.base_model.model) == set(paths)
    assert torch.equal(loaded(ids).logits, adapted(ids).logits)


@pytest.mark.parametrize("trained", [[], ["model.norm"]])
def test_targets_that_peft_would_turn_into_parameters_are_refused_before_anything_changes(trained, plan_for):
    model = deepseek()
    before = {path: id(module) for path, module in model.named_modules()}
    plan = plan_for(model, {"a": ("lora", {"r": 4}, ["model.layers.0.mlp.down_proj"])}, trained=trained)
    with pytest.raises(SurgeryError, match="PEFT rewrites the targets of the adapter `a` for this model") as error:
        apply(model, plan)
    assert {d.code for d in error.value.diagnostics} == {"E0406"}
    assert {path: id(module) for path, module in model.named_modules()} == before


def test_another_method_is_not_rewritten(plan_for):
    model = deepseek()
    plan = plan_for(model, {"a": ("loha", {"r": 2}, ["model.layers.0.mlp.down_proj"])})
    assert adapted_paths(base_model(apply(model, plan))) == {"model.layers.0.mlp.down_proj"}


def test_a_line_break_in_a_name_is_no_end(plan_for):
    model = nn.ModuleDict({"a": nn.Linear(4, 4), "a\n": nn.Linear(4, 4), "b": nn.Linear(4, 4)})
    plan = plan_for(model, {"t": ("lora", {"r": 2}, ["a", "a\n", "b"])})
    sites = [
        s.model_copy(update={"settings": s.settings | {"r": 1}, "added": 8}) if s.path == "a" else s for s in plan.sites
    ]
    sites = [s.model_copy(update={"scale": s.settings["alpha"] / s.settings["r"]}) for s in sites]
    added = sum(site.added for site in sites)
    totals = plan.totals.model_copy(update={"added": added, "trainable": added})
    adapted = apply(model, plan.model_copy(update={"sites": sites, "totals": totals}))
    assert {path: layer.r["t"] for path, layer in base_model(adapted).items()} == {"a": 1, "a\n": 2, "b": 2}


def test_a_configuration_is_the_full_one_again_after_peft_adapted_some_sites(plan_for):
    model = nn.Sequential(*(nn.Linear(4, 4) for _ in range(5)))
    plan = plan_for(model, {"t": ("lora", {"r": 2}, ["0", "1", "2", "4"])})
    config = copy.deepcopy(lower(model, plan)[0].config)
    adapted = apply(model, plan)
    assert adapted.peft_config["t"].to_dict() == config.to_dict() | {"base_model_name_or_path": None}
    assert config.target_modules == "(?:[0-2]|4)"
