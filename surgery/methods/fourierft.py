"""FourierFT: a few learnt entries of the update's Fourier spectrum (https://arxiv.org/abs/2405.03003)."""

from __future__ import annotations

from surgery.methods.catalogue import settings_of
from surgery.methods.spectral import Spectral

_setting = settings_of("FOURIERFT")


class FourierFt(Spectral):
    """W + scaling * the real part of the inverse 2-D DFT of a spectrum with n_frequency learnt entries."""

    name = "fourierft"
    title = "FourierFT"
    paper = "https://arxiv.org/abs/2405.03003"
    peft_type = "FOURIERFT"
    starts_at = {"fourierft_spectrum": 0.0}
    settings = (
        _setting("n_frequency", "int", "how many entries of the spectrum are learnt"),
        _setting("scaling", "number", "the factor on the update"),
        _setting("random_loc_seed", "count", "the seed of where the entries lie"),
        _setting("init_weights", "bool", "true: zeros; false: normal, not the base model at start", name="init"),
    )
    refused_fields = {
        "n_frequency_pattern": "PEFT takes its keys for endings of paths; write one target per n_frequency"
    }


FOURIERFT = FourierFt()
