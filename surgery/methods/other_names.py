"""Names that people know and that are no methods here: what to write in their place, or why there is nothing."""

from collections.abc import Mapping

_PROMPTS = "it puts no layers into a model but learns what the model is given beside its inputs"

OTHER_NAMES: Mapping[str, str] = {
    "dora": "it is a setting of LoRA: write `lora { dora = true }`",
    "rslora": "it is a setting of LoRA: write `lora { rslora = true }`",
    "bdlora": 'it is a setting of LoRA: write `lora { bdlora = "A" }`',
    "pissa": 'it is a start of LoRA: write `lora { init = "pissa" }`',
    "olora": 'it is a start of LoRA: write `lora { init = "olora" }`',
    "mica": 'it is a start of LoRA: write `lora { init = "mica" }`',
    "qlora": "it is `lora` on a quantised model: the model is quantised where `model` builds it",
    "para": "it is a form of DEFT: write `deft { para = true }`",
    "bone": 'it is MiSS by its former name: write `miss`, and `init = "bat"` for Bat',
    "bat": 'it is a form of MiSS: write `miss { init = "bat" }`',
    **dict.fromkeys(
        (
            "prompt_tuning",
            "multitask_prompt_tuning",
            "p_tuning",
            "prefix_tuning",
            "adaption_prompt",
            "cpt",
            "cartridge",
        ),
        f"PEFT has it, and it is not offered here: {_PROMPTS}",
    ),
}
