"""What PEFT builds without a word, and not as it was asked for: the reason why a method refuses it."""

from __future__ import annotations

import peft
import pytest
import torch
from adaptable_layers import described
from torch import nn
from transformers.models.bart.modeling_bart import BartScaledWordEmbedding
from transformers.models.opt.modeling_opt import OPTLearnedPositionalEmbedding

from surgery.methods import METHODS

pytestmark = pytest.mark.filterwarnings("ignore")


def adapted(name, layer, **given):
    """The layer alone in a list, adapted by plain PEFT with these settings under their user's names."""
    method = METHODS[name]
    settings = {setting.name: setting.default for setting in method.settings} | given
    config = getattr(peft, method.config)(target_modules=r"0", **method.fields(settings))
    return peft.get_peft_model(nn.Sequential(layer), config)


def refusal(name, layer, **given):
    method = METHODS[name]
    settings = {setting.name: setting.default for setting in method.settings} | given
    return method.conflict(settings) or method.refusal(described(layer), settings)


def shaken(model):
    """The model with every trained parameter moved, as training would."""
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter))
    return model


def test_one_vector_per_piece_really_gives_logits_no_gradient():
    settings = {"vector_length": 4, "num_vectors": 10, "topk": 1}
    assert "no gradient" in refusal("vblora", nn.Linear(8, 8), **settings)
    model = adapted("vblora", nn.Linear(8, 8), **settings)
    model(torch.randn(3, 8)).square().sum().backward()
    layer = model.base_model.model[0]
    assert layer.vblora_vector_bank["default"].grad.any()
    assert not layer.vblora_logits_A["default"].grad.any()
    assert not layer.vblora_logits_B["default"].grad.any()


def test_very_sparse_really_takes_the_place_of_sparse():
    assert "takes the place" in refusal("randlora", nn.Linear(64, 64), sparse=True, very_sparse=True)
    both, one, other = (
        adapted("randlora", nn.Linear(64, 64), **given).base_model.randlora_B["default"]
        for given in ({"sparse": True, "very_sparse": True}, {"very_sparse": True}, {"sparse": True})
    )
    assert torch.equal(both, one)
    assert not torch.equal(both, other)


def test_tinylora_really_steers_fewer_directions_than_asked_for():
    layer = nn.Linear(24, 8)
    assert "8 singular directions, fewer than r = 9" in refusal("tinylora", layer, r=9)
    model = adapted("tinylora", layer, r=9)
    assert model.base_model.model[0].r == {"default": 8}
    assert model.peft_config["default"].r == 9


def test_tinylora_on_a_weight_of_zeros_really_never_gets_a_gradient():
    layer = nn.Linear(8, 8)
    nn.init.zeros_(layer.weight)
    model = shaken(adapted("tinylora", layer))
    model(torch.randn(3, 8)).square().sum().backward()
    [gradient] = [parameter.grad for parameter in model.parameters() if parameter.requires_grad]
    assert not gradient.any()


def test_trainable_tokens_really_leave_out_a_bias():
    layer, x = nn.Linear(8, 12), torch.randn(3, 8)
    expected = layer(x)
    assert "leave out the bias" in refusal("trainable_tokens", layer, token_indices=[3])
    found = adapted("trainable_tokens", layer, token_indices=[3])(x)
    assert torch.allclose(found + layer.bias, expected)
    assert not torch.allclose(found, expected)


def test_a_token_named_twice_really_has_a_row_that_is_not_used():
    layer = nn.Embedding(10, 4)
    assert "names 1 twice" in refusal("trainable_tokens", layer, token_indices=[1, 1])
    model = shaken(adapted("trainable_tokens", layer, token_indices=[1, 1]))
    rows = model.base_model.model[0].trainable_tokens_delta["default"]
    found = model(torch.tensor([1]))[0]
    assert not torch.equal(rows[0], rows[1])
    assert torch.equal(found, rows[0]) != torch.equal(found, rows[1])


def test_trainable_tokens_really_look_up_in_their_own_way():
    layer, mask = OPTLearnedPositionalEmbedding(30, 12), torch.ones(2, 5, dtype=torch.long)
    expected = layer(mask)
    assert "may do it in its own way" in refusal("trainable_tokens", layer, token_indices=[3])
    assert not torch.allclose(adapted("trainable_tokens", layer, token_indices=[3])(mask), expected)


def test_tinylora_really_looks_up_in_its_own_way():
    layer, tokens = BartScaledWordEmbedding(30, 12, padding_idx=0, embed_scale=3.0), torch.tensor([[1, 2, 3]])
    assert "may do it in its own way" in refusal("tinylora", layer)
    model = shaken(adapted("tinylora", layer)).eval()
    found = model(tokens)
    assert not torch.allclose(model.merge_and_unload()(tokens), found, atol=1e-3)
