"""The wavelets of WaveFT: those offered are wavelets, and those that PEFT lists beside them are not."""

from __future__ import annotations

from math import sqrt

import pytest
import torch
from one_layer import adapted
from peft.tuners.waveft.constants import WAVELET_REDUCTIONS
from peft.tuners.waveft.wavelet import Wavelet
from torch import nn

from surgery.methods import METHODS

pytestmark = pytest.mark.filterwarnings("ignore")
FAMILY = METHODS["waveft"].setting("wavelet_family")


def is_orthonormal(taps: list[float]) -> bool:
    """Whether a scaling filter sums to sqrt(2) and is orthonormal to its even shifts."""
    products = [sum(a * b for a, b in zip(taps[shift:], taps, strict=False)) for shift in range(0, len(taps), 2)]
    sums = abs(sum(taps) - sqrt(2)) < 1e-6
    return sums and abs(products[0] - 1) < 1e-6 and all(abs(product) < 1e-6 for product in products[1:])


def test_every_family_that_peft_lists_is_offered_or_says_why_not():
    refused = {family for family in WAVELET_REDUCTIONS if METHODS["waveft"].unsupported_value(FAMILY, family)}
    assert refused | set(FAMILY.choices) == set(WAVELET_REDUCTIONS)
    assert not refused & set(FAMILY.choices)


@pytest.mark.parametrize("family", FAMILY.choices)
def test_a_family_that_is_offered_is_a_wavelet(family):
    assert is_orthonormal(Wavelet(family).rec_lo)
    assert len(Wavelet(family).rec_lo) == WAVELET_REDUCTIONS[family][0] + 2


@pytest.mark.parametrize("family", ["coif4", "coif5"])
def test_the_longest_coiflets_really_are_none(family):
    assert not is_orthonormal(Wavelet(family).rec_lo)


def test_the_other_families_really_have_no_filter():
    for family in WAVELET_REDUCTIONS.keys() - {*FAMILY.choices, "coif4", "coif5"}:
        model, _ = adapted("waveft", nn.Linear(12, 20), n_frequency=10, wavelet_family=family)
        with pytest.raises(ValueError, match="Unknown wavelet"):
            model(torch.randn(2, 12))
