"""Why a spec does not set certain fields of PEFT's configurations."""

_WHERE = "`select` says which modules are adapted"
_RECORD = "it is written when the adapter is saved"

BY_SURGERY: dict[str, str] = {
    "target_modules": _WHERE,
    "target_parameters": "`select param(...)` says which parameters are adapted",
    "exclude_modules": "`exclude` and `except` say which modules are left out",
    "layers_to_transform": _WHERE,
    "layers_pattern": _WHERE,
    "rank_pattern": "write one target per rank",
    "alpha_pattern": "write one target per alpha",
    "modules_to_save": "`train { select ... }` says which modules are trained in full",
    "bias": "biases are trained by `train { select ... }`",
    "fan_in_fan_out": "it follows from the class of the module",
    "inference_mode": "an adapter is applied to be trained",
    "task_type": "it is not needed to apply an adapter",
    "peft_type": _RECORD,
    "auto_mapping": _RECORD,
    "peft_version": _RECORD,
    "base_model_name_or_path": _RECORD,
    "revision": _RECORD,
}
