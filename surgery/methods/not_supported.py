"""The methods of PEFT that put layers into a model and are not offered here, each with the reason."""

from collections.abc import Mapping

from surgery.methods.reasons import LATER

NOT_SUPPORTED: Mapping[str, str] = {
    "ADALORA": LATER,
    "BEFT": LATER,
    "BOFT": LATER,
    "C3A": LATER,
    "DEFT": LATER,
    "DELORA": LATER,
    "FOURIERFT": LATER,
    "FROD": (
        "PEFT does not save all of its basis and computes it anew when loading: with another number of threads that "
        "is another basis, and the trained adapter is lost without a word"
    ),
    "GLORA": LATER,
    "GRALORA": LATER,
    "HIRA": LATER,
    "HRA": LATER,
    "IA3": LATER,
    "LN_TUNING": LATER,
    "LOKR": LATER,
    "MISS": LATER,
    "OFT": LATER,
    "OSF": LATER,
    "PEANUT": LATER,
    "POLY": "every call has to name the task of each sample (`task_ids`), which no model takes and no example call has",
    "PSOFT": LATER,
    "ROAD": LATER,
    "SHADOW": (
        "it wraps whole blocks and trains a second network beside the model, made from the model's code: its "
        "parameters do not follow from shapes"
    ),
    "SHIRA": LATER,
    "SUPERTUNING": LATER,
    "WAVEFT": LATER,
    "XLORA": "it mixes LoRA adapters that were trained before, by running the model twice; it is no adapter of its own",
}
