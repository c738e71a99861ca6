"""What PEFT's OFT, BOFT, HRA and PSOFT do without a word with settings and layers that are refused here."""

from __future__ import annotations

import peft
import pytest
import torch
from one_layer import adapted, refusal, shake, trained
from peft.tuners.boft.layer import get_fbd_cuda
from torch import nn

from surgery.methods import METHODS

pytestmark = pytest.mark.filterwarnings("ignore")


def test_oft_really_mixes_up_overlapping_windows():
    layer, x = nn.Conv2d(4, 6, 3, padding=1), torch.randn(1, 4, 8, 8)
    assert "overlapping windows" in refusal("oft", layer, block_size=4)
    _, site = adapted("oft", layer, block_size=4)
    turned = site.oft_R["default"](x)  # by the identity
    assert not torch.allclose(turned, x, atol=0.1)
    windows_over_each = nn.functional.conv2d(torch.ones(1, 1, 6, 6), torch.ones(1, 1, 3, 3), padding=2)
    assert not torch.allclose(turned / windows_over_each, x, atol=0.1)


def test_oft_really_takes_other_blocks_than_asked_for():
    assert "would take another" in refusal("oft", nn.Linear(12, 20), block_size=5)
    _, layer = adapted("oft", nn.Linear(12, 20), block_size=5)
    assert layer.oft_block_size["default"] == 4


def test_oft_blocks_of_one_input_really_hold_nothing():
    assert "nothing to turn" in refusal("oft", nn.Linear(12, 20), block_size=1)
    model, _ = adapted("oft", nn.Linear(12, 20), block_size=1)
    assert sum(parameter.numel() for parameter in trained(model).values()) == 0


def test_the_dropout_of_oft_really_is_never_applied():
    assert "module_dropout" in METHODS["oft"].unsupported
    config = peft.OFTConfig(target_modules=["0"], oft_block_size=4, module_dropout=0.9)
    model = peft.get_peft_model(nn.Sequential(nn.Linear(12, 20)), config)
    shake(model)
    x = torch.randn(3, 12)
    assert torch.equal(model.train()(x), model.eval()(x))


def test_oft_really_fails_to_merge_into_a_convolution_with_groups():
    torch.manual_seed(0)
    layer, x = nn.Conv2d(8, 12, 1, groups=2), torch.randn(1, 8, 3, 3)
    model, site = adapted("oft", layer, block_size=4)
    shake(model)
    turned = torch.einsum("bihw,ij->bjhw", x, site.get_delta_weight("default"))
    assert torch.allclose(model(x), layer(turned), atol=1e-6)
    with pytest.raises(RuntimeError):
        model.merge_and_unload()


@pytest.mark.parametrize("name", ["oft", "psoft"])
def test_one_term_of_the_series_really_is_the_identity_whatever_is_learnt(name):
    settings = {"cayley_neumann": True, "num_cayley_neumann_terms": 1}
    settings |= {"block_size": 4} if name == "oft" else {"r": 4, "mag_a": False, "mag_b": False}
    layer, x = nn.Linear(12, 20), torch.randn(3, 12)
    assert "the identity, whatever is learnt" in refusal(name, layer, **settings)
    model, _ = adapted(name, layer, **settings)
    shake(model)
    assert torch.equal(model(x), layer(x))


def test_boft_really_takes_one_butterfly_factor_without_its_cuda_extension():
    assert "another machine" in METHODS["boft"].unsupported["boft_n_butterfly_factor"]
    if get_fbd_cuda():
        pytest.skip("the extension is built here")
    config = peft.BOFTConfig(target_modules=["0"], boft_block_size=4, boft_n_butterfly_factor=2)
    model = peft.get_peft_model(nn.Sequential(nn.Linear(16, 8)), config)
    assert model.base_model.model[0].boft_R["default"].shape == (1, 4, 4, 4)


@pytest.mark.parametrize(("settings", "sound"), [({"r": 4}, False), ({"r": 3}, True), ({"r": 4, "init": False}, True)])
def test_gram_schmidt_of_the_pairs_of_hra_really_divides_rounding_errors(settings, sound):
    """Directions of another length are the same directions, and have to turn the weight alike."""
    torch.manual_seed(0)
    assert ("rounding errors" in refusal("hra", nn.Linear(12, 20), apply_GS=True, **settings)) != sound
    _, layer = adapted("hra", nn.Linear(12, 20), apply_GS=True, **settings)
    before = layer.get_delta_weight("default")
    with torch.no_grad():
        layer.hra_u["default"] *= 1.7
    assert torch.allclose(layer.get_delta_weight("default"), before, atol=1e-3) == sound


@pytest.mark.parametrize(("r", "orthogonal"), [(12, True), (13, False)])
def test_more_directions_than_inputs_are_really_not_orthogonal(r, orthogonal):
    torch.manual_seed(0)
    settings = {"r": r, "apply_GS": True, "init": False}
    assert bool(refusal("hra", nn.Linear(12, 20), **settings)) != orthogonal
    _, layer = adapted("hra", nn.Linear(12, 20), **settings)
    turned = layer.get_delta_weight("default")
    assert torch.allclose(turned @ turned.T, torch.eye(12), atol=1e-4) == orthogonal


def test_alpha_of_psoft_really_changes_rounding_only():
    torch.manual_seed(0)
    layer, x, outputs = nn.Linear(12, 20), torch.randn(3, 12), []
    for alpha in (1, 64):
        model, site = adapted("psoft", layer, r=4, alpha=alpha)
        nn.init.constant_(site.psoft_R["default"].weight, 0.3)
        outputs.append(model(x))
    assert not torch.allclose(outputs[0], layer(x), atol=1e-3)
    assert torch.allclose(*outputs, atol=1e-5)


def test_a_trained_psoft_really_depends_on_the_signs_that_the_svd_gives():
    torch.manual_seed(0)
    model, site = adapted("psoft", nn.Linear(12, 20), r=4)
    shake(model)
    x = torch.randn(3, 12)
    before = model(x)
    down, up = site._get_psoft_ab_cache_buffers("default")
    directions = up @ down
    down[0], up[:, 0] = -down[0], -up[:, 0]  # as good an SVD as the other
    assert torch.allclose(up @ down, directions)
    assert not torch.allclose(model(x), before, atol=1e-3)
    assert not any("cache" in key for key in model.state_dict())


def test_one_direction_really_cannot_be_turned():
    assert "cannot be turned" in refusal("psoft", nn.Linear(12, 20), r=1)
    _, layer = adapted("psoft", nn.Linear(12, 20), r=1)
    assert layer.psoft_R["default"].weight.numel() == 0


def test_psoft_really_takes_no_double_precision():
    layer = nn.Linear(12, 20, dtype=torch.float64)
    assert "float64" in refusal("psoft", layer, r=4)
    with pytest.raises(TypeError):
        adapted("psoft", layer, r=4)
