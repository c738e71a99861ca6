"""Carry out a plan on a live model: exactly, or not at all."""

from __future__ import annotations

import warnings
from typing import Any

from peft import get_peft_model
from peft.tuners.lora import LoraLayer
from peft.tuners.tuners_utils import BaseTunerLayer
from peft.utils.other import ModulesToSaveWrapper
from torch import nn

from surgery.diagnostics import Diagnostic, Diagnostics, SurgeryError
from surgery.inject.compare import compare
from surgery.inject.fit import misfits, refusals, unknown_methods
from surgery.inject.lowering import Lowered, lower, unproven
from surgery.inject.snapshot import Snapshot
from surgery.inject.state import Adapted, base_model, trainable_tensors, tuner_of
from surgery.planning.plan import Plan


def apply(model: nn.Module, plan: Plan) -> Adapted:
    """Inject the plan's adapters into `model` and return it wrapped: as PeftMixedModel if methods mix, else PeftModel.

    All adapters are active together, the planned parameters and no others require gradients, and training
    flags are as before. Raises SurgeryError and leaves the model as it was: E0511 for a plan with errors, E0506
    for another model, E0406 for what PEFT cannot do exactly, E0509 when PEFT fails or does something else. A plan
    that asks for nothing, as one whose targets are all switched off, changes nothing: `model` itself comes back.
    """
    if plan.applyable and not plan.sites and not plan.trained:
        return model  # type: ignore[return-value]
    lowered = _checked(model, plan)
    snapshot = Snapshot(model)
    try:
        adapted = _inject(model, lowered)
        _set_trainable(adapted, plan)
        Diagnostics(compare(adapted, plan)).raise_errors()
    except SurgeryError:
        snapshot.restore()
        raise
    except Exception as error:
        snapshot.restore()
        raise SurgeryError(_failed(error)) from error
    except BaseException:
        snapshot.restore()
        raise
    return adapted


def _checked(model: nn.Module, plan: Plan) -> list[Lowered]:
    found = Diagnostics([*refusals(plan), *unknown_methods(plan)])
    found.raise_errors()
    found.extend(misfits(model, plan))
    found.raise_errors()
    lowered = lower(model, plan)
    found.extend(unproven(model, lowered))
    found.raise_errors()
    return lowered


def _inject(model: nn.Module, lowered: list[Lowered]) -> Adapted:
    first, *others = lowered
    known = {id(module) for module in model.modules()}
    mixed = len({adapter.config.peft_type for adapter in lowered}) > 1
    with warnings.catch_warnings():
        _silence_handled()
        adapted = get_peft_model(model, first.config, adapter_name=first.name, mixed=mixed)
        tuner = tuner_of(adapted)
        for adapter in others:
            # PeftMixedModel.add_adapter would match against paths with its own prefix; this is what PeftModel's does.
            tuner.peft_config[adapter.name] = adapter.config
            tuner.inject_adapter(tuner.model, adapter.name)
    for adapter in lowered:
        tuner._cast_adapter_dtype(adapter.name)
    _renew_magnitudes(adapted, lowered)
    if others:
        tuner.set_adapter([adapter.name for adapter in lowered])
    _inherit_training(adapted, known)
    return adapted


def _renew_magnitudes(adapted: Adapted, lowered: list[Lowered]) -> None:
    """DoRA's magnitudes, which PEFT makes before the cast: in half precision they would not be the weight's norm."""
    configs = {adapter.name: adapter.config for adapter in lowered}
    for layer in adapted.modules():
        if isinstance(layer, LoraLayer):
            for name in layer.lora_magnitude_vector:
                variant: Any = layer.lora_variant[name]
                variant.init(layer, adapter_name=name, config=configs[name])


def _silence_handled() -> None:
    """PEFT's warnings about what the plan has decided, or what is compared afterwards."""
    for message in (
        "fan_in_fan_out is set to",
        "LoRA adapter added to ConvNd layer with groups",
        "Adapter name '.*' should not be contained in the prefix",
        "`is_gradient_checkpointing` is deprecated",
    ):
        warnings.filterwarnings("ignore", message=message)


def _inherit_training(adapted: Adapted, known: set[int]) -> None:
    """New modules start in training mode; give each the mode of the module it wraps."""
    outer = base_model(adapted).training
    adapted.training = tuner_of(adapted).training = outer
    for module in adapted.modules():
        if isinstance(module, BaseTunerLayer):
            mode = module.get_base_layer().training
            for inner in module.modules():
                if id(inner) not in known:
                    inner.training = mode
        elif isinstance(module, ModulesToSaveWrapper):
            for inner in (module, *module.children()):
                if id(inner) not in known:
                    inner.training = module.original_module.training


def _set_trainable(adapted: Adapted, plan: Plan) -> None:
    """PEFT decides by names what stays trainable; the plan decides by modules."""
    trainable = {id(tensor) for tensor in trainable_tensors(adapted, plan)}
    for parameter in adapted.parameters():
        parameter.requires_grad_(id(parameter) in trainable)


def _failed(error: Exception) -> Diagnostic:
    return Diagnostic(
        "E0509",
        f"PEFT could not inject the plan: {type(error).__name__}: {error}",
        notes=("the model is as it was before",),
        helps=("take the module that it names out of its target, or report this with the plan",),
    )
