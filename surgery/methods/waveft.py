"""WaveFT: a few learnt wavelet coefficients of the update (https://arxiv.org/abs/2505.12532)."""

from __future__ import annotations

from surgery.methods.catalogue import settings_of
from surgery.methods.setting import Setting
from surgery.methods.spectral import Spectral

_setting = settings_of("WAVEFT")
_SOUND = (
    *(f"db{number}" for number in range(1, 11)),
    *(f"sym{number}" for number in range(2, 11)),
    *(f"coif{number}" for number in range(1, 4)),
)


class WaveFt(Spectral):
    """W + scaling * the inverse wavelet transform of a matrix with n_frequency learnt coefficients."""

    name = "waveft"
    title = "WaveFT"
    paper = "https://arxiv.org/abs/2505.12532"
    peft_type = "WAVEFT"
    starts_at = {"waveft_spectrum": 0.0}
    settings = (
        _setting("n_frequency", "int", "how many coefficients are learnt", pattern="n_frequency_pattern"),
        _setting("scaling", "number", "the factor on the update"),
        _setting("wavelet_family", "choice", "the wavelet", choices=_SOUND),
        _setting("use_idwt", "bool", "false: the coefficients are entries of the update itself"),
        _setting("random_loc_seed", "count", "the seed of where the coefficients lie"),
        _setting(
            "init_weights", "bool", "true: zeros; false: small and random, not the base model at start", name="init"
        ),
    )
    refused_fields = {
        "n_frequency_pattern": "write one target per n_frequency",
        "proportional_parameters": "the coefficients of a module would depend on which others are adapted; "
        "write one target per n_frequency",
    }

    def unsupported_value(self, setting: Setting, value: object) -> str | None:
        if setting.name != "wavelet_family" or value in _SOUND:
            return None
        if isinstance(value, str) and value.startswith(("db", "sym", "coif")):
            return "PEFT has no filter of this name, or (coif4, coif5) a wrong one"
        return None


WAVEFT = WaveFt()
