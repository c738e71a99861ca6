"""The methods of PEFT that put layers into a model and are not offered here, each with the reason."""

from collections.abc import Mapping

NOT_SUPPORTED: Mapping[str, str] = {
    "FROD": (
        "PEFT does not save all of its basis and computes it anew when loading: with another number of threads that "
        "is another basis, and the trained adapter is lost without a word"
    ),
    "POLY": "every call has to name the task of each sample (`task_ids`), which no model takes and no example call has",
    "SHADOW": (
        "it wraps whole blocks and trains a second network beside the model, made from the model's code: its "
        "parameters do not follow from shapes"
    ),
    "XLORA": "it mixes LoRA adapters that were trained before, by running the model twice; it is no adapter of its own",
}
