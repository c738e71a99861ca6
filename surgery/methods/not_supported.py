"""The methods of PEFT that put layers into a model and are not offered here, each with the reason."""

from collections.abc import Mapping

from surgery.methods.reasons import LATER

NOT_SUPPORTED: Mapping[str, str] = {
    "ADALORA": LATER,
    "ADAMSS": LATER,
    "BEFT": LATER,
    "BOFT": LATER,
    "C3A": LATER,
    "DEFT": LATER,
    "DELORA": LATER,
    "FOURIERFT": LATER,
    "FROD": LATER,
    "GLORA": LATER,
    "GRALORA": LATER,
    "HIRA": LATER,
    "HRA": LATER,
    "IA3": LATER,
    "LILY": LATER,
    "LN_TUNING": LATER,
    "LOKR": LATER,
    "MISS": LATER,
    "OFT": LATER,
    "OSF": LATER,
    "PEANUT": LATER,
    "POLY": LATER,
    "PSOFT": LATER,
    "PVERA": LATER,
    "RANDLORA": LATER,
    "ROAD": LATER,
    "SHADOW": LATER,
    "SHIRA": LATER,
    "SUPERTUNING": LATER,
    "TINYLORA": LATER,
    "TRAINABLE_TOKENS": LATER,
    "UNILORA": LATER,
    "VBLORA": LATER,
    "VERA": LATER,
    "WAVEFT": LATER,
    "XLORA": "it mixes LoRA adapters that were trained before; it is no adapter of its own",
}
