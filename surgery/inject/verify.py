"""Verify an adapted model: the exact set, identity at the start, a gradient at every adapter."""

from __future__ import annotations

from typing import Any

import torch
from peft.tuners.tuners_utils import BaseTunerLayer

from surgery.capturing.stopped import stopped_at
from surgery.diagnostics import Diagnostic, Diagnostics, SurgeryError
from surgery.inject.compare import compare
from surgery.inject.fit import refusals
from surgery.inject.gradients import gradients_at
from surgery.inject.outputs import call, difference, disabled, evaluating
from surgery.inject.state import Adapted, adapter_state, base_model, layer_at, layer_tensors, wrappers
from surgery.inject.verification import Gradients, Identity, Verification
from surgery.methods import METHODS
from surgery.methods.setting import as_text
from surgery.planning.plan import Plan, Site
from surgery.planning.words import counted

_SHOWN = 5


def verify(model: Adapted, plan: Plan, inputs: Any) -> Verification:
    """Check an adapted model against its plan: compare, call it with and without adapters, run one backward.

    `inputs` is an example call: a mapping of keyword arguments, a pair (args, kwargs), a sequence or one value.
    The calls are made in evaluation mode; gradients, training flags and random state are put back. Identity is
    required of fresh adapters only. Raises SurgeryError: E0509 where the adapted set differs, E0510 where
    the adapted model does not start as the base model or a gradient cannot reach an adapter. A gradient that a frozen
    all-zero layer of the base model keeps away is a fact of that model: reported as W0906, not raised. E0511 for
    a plan that adapts nothing.
    """
    Diagnostics(refusals(plan)).raise_errors()
    Diagnostics(compare(model, plan)).raise_errors()
    with evaluating(model):
        try:
            identity = _identity(model, plan, inputs)
            gradients = gradients_at(model, plan, inputs)
        except Exception as error:
            raise SurgeryError(_fails(error)) from error
    found = Diagnostics([*_broken(identity), *_unreached(gradients, plan)])
    found.raise_errors()
    tensors = [tensor for state in adapter_state(model, plan).values() for tensor in state.values()]
    return Verification(
        sites=len(plan.sites),
        added=sum(site.added for site in plan.sites),
        trainable=sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad),
        adapter_bytes=sum(tensor.numel() * tensor.element_size() for tensor in tensors),
        planned_bytes=plan.totals.adapter_bytes,
        identity=identity,
        gradients=gradients,
        diagnostics=tuple(found),
    )


def _identity(model: Adapted, plan: Plan, inputs: Any) -> Identity:
    with torch.no_grad():
        adapted = call(model, inputs)
        with disabled(model):
            base = call(model, inputs)
    gap = difference(adapted, base)
    reason = _not_promised(model, plan)
    if reason:
        return Identity("skipped", gap, reason)
    return Identity("exact" if gap == 0 else "broken", gap)


def _not_promised(model: Adapted, plan: Plan) -> str:
    """Why this model need not compute what its base model computes, or an empty text."""
    base = base_model(model)
    for site in plan.sites:
        if METHODS[site.method].start(site.settings) != "exact":
            given = f" with init = {as_text(site.settings['init'])}" if "init" in site.settings else ""
            return f"{site.method}{given} promises none, at `{site.path}`"
    for site in plan.sites:
        if not _is_fresh(site, layer_at(base, site.path)):
            return f"the adapters are no longer fresh, at `{site.path}`"
    for path, wrapper in wrappers(base):
        [trained] = wrapper.modules_to_save.values()
        original = wrapper.original_module.state_dict()
        if any(not torch.equal(value, original[name]) for name, value in trained.state_dict().items()):
            return f"the trained modules are no longer fresh, at `{path}`"
    return ""


def _is_fresh(site: Site, layer: BaseTunerLayer) -> bool:
    """Whether the parameters that make a fresh adapter add nothing have their start values."""
    starts = METHODS[site.method].starts_at
    held = [(tensor, starts.get(name.partition(".")[0])) for name, tensor in layer_tensors(layer, site.adapter)]
    return all(start is None or bool((tensor == start).all()) for tensor, start in held)


def _fails(error: Exception) -> Diagnostic:
    return Diagnostic(
        "E0510",
        f"the example call fails on the adapted model: {type(error).__name__}: {error}",
        place=stopped_at(error),
        helps=(
            "does the call work on the base model? if not, give other inputs",
            "if it reads an attribute of an adapted module that PEFT's layer lacks, take this module out of its target",
        ),
    )


def _broken(identity: Identity) -> list[Diagnostic]:
    if identity.status != "broken":
        return []
    return [
        Diagnostic(
            "E0510",
            f"the adapted model does not start as the base model: max abs difference {identity.difference:g}",
            notes=("outputs of one call in evaluation mode, adapters active against adapters disabled",),
            helps=("is the model's output random in a way that torch.manual_seed does not fix? give other inputs",),
        )
    ]


def _unreached(gradients: Gradients, plan: Plan) -> list[Diagnostic]:
    found = []
    if gradients.missing:
        found.append(
            Diagnostic(
                "E0510",
                f"no gradient reaches {len(gradients.missing)} of {counted(len(plan.sites), 'adapted module')}",
                notes=_listed(gradients.missing),
                helps=("take these modules out of the targets, or verify with inputs that use them",),
            )
        )
    if gradients.blocked:
        found.append(
            Diagnostic(
                "W0906",
                f"no gradient reaches {len(gradients.blocked)} of {counted(len(plan.sites), 'adapted module')} yet",
                notes=_listed(gradients.blocked),
                helps=("load the pretrained weights, or train the layers that are all zeros: `train { select ... }`",),
            )
        )
    return found


def _listed(reasons: Any) -> tuple[str, ...]:
    """Reasons, each with the sites it holds for."""
    sites: dict[str, list[str]] = {}
    for path, reason in reasons.items():
        sites.setdefault(reason, []).append(path)
    return tuple(
        f"{reason}: {', '.join(f'`{path}`' for path in paths[:_SHOWN])}"
        + (f" and {len(paths) - _SHOWN} more" if len(paths) > _SHOWN else "")
        for reason, paths in sites.items()
    )
