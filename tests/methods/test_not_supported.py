"""The methods of PEFT that are not offered really are as their reason says; what goes by another name is found."""

from __future__ import annotations

import re
from copy import deepcopy

import peft
import pytest
import torch
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM

from surgery.language import load
from surgery.language.method_use import check_methods, ways_out
from surgery.methods import METHODS, NOT_SUPPORTED, OTHER_NAMES
from surgery.methods.catalogue import CATALOGUE

pytestmark = pytest.mark.filterwarnings("ignore")


def shaken(model):
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter) * 0.1)
    return model.eval()


def reloaded(base, directory):
    return peft.PeftModel.from_pretrained(base, str(directory)).eval()


def test_frod_really_is_lost_when_its_basis_is_computed_with_other_roundings(tmp_path):
    """Weights off by one part in ten million, as what another number of threads makes of a sum."""
    assert "computes it anew" in NOT_SUPPORTED["FROD"]
    torch.manual_seed(0)
    base, x = nn.Sequential(nn.Linear(64, 96)), torch.randn(4, 64)
    same, other = deepcopy(base), deepcopy(base)
    with torch.no_grad():
        other[0].weight.mul_(1 + 1e-7 * torch.randn_like(other[0].weight))
    model = shaken(peft.get_peft_model(base, peft.FrodConfig(target_modules="0", progressbar=False)))
    model.save_pretrained(str(tmp_path))
    expected = model(x)
    assert torch.allclose(reloaded(same, tmp_path)(x), expected, atol=1e-5)
    assert (reloaded(other, tmp_path)(x) - expected).abs().max() > 0.1


def test_poly_really_needs_the_tasks_in_every_call():
    assert "task_ids" in NOT_SUPPORTED["POLY"]
    model = peft.get_peft_model(nn.Sequential(nn.Linear(8, 8)), peft.PolyConfig(target_modules="0"))
    with pytest.raises(ValueError, match="task_ids should not be None"):
        model(torch.randn(2, 3, 8))


def test_shadow_really_trains_a_second_network():
    assert "second network" in NOT_SUPPORTED["SHADOW"]
    model = peft.get_peft_model(llama(), peft.ShadowConfig(r=2))
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert any("shadow_backbone" in name and "self_attn.q_proj" in name for name in trained)


def test_xlora_really_adapts_nothing_without_adapters_trained_before():
    assert "trained before, by running the model twice" in NOT_SUPPORTED["XLORA"]
    base, calls = llama(), []
    model = peft.get_peft_model(base, peft.XLoraConfig(hidden_size=16, adapters={}))
    assert not any(isinstance(module, BaseTunerLayer) for module in model.modules())
    assert sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad) == 0
    base.model.register_forward_hook(lambda *_: calls.append(1))
    model(input_ids=torch.tensor([[1, 2]]))
    assert len(calls) == 2


def test_every_type_of_peft_that_puts_no_layers_into_a_model_says_so():
    others = {kind.value.lower() for kind in peft.PeftType if kind.value not in CATALOGUE}
    assert others == {name for name, reason in OTHER_NAMES.items() if "puts no layers" in reason}
    assert "puts no layers" in ways_out("PREFIX_TUNING")[0]


@pytest.mark.parametrize("name", OTHER_NAMES)
def test_what_is_to_be_written_for_another_name_can_be_written(name, tmp_path):
    assert name not in METHODS
    for method in re.findall(r"write `(\w+ \{.*?\})`", OTHER_NAMES[name]):
        spec = tmp_path / "f.surg"
        spec.write_text(f'surg 1\ntarget a {{ select path("**") {method} }}\n')
        assert not list(check_methods(load(spec)))


def llama():
    sizes = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}
    return LlamaForCausalLM(LlamaConfig(**sizes, vocab_size=32, use_cache=False))
