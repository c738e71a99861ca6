"""Verify an adapted model: the exact set, identity at the start, gradients, a step, merging, memory."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import torch
from peft.tuners.tuners_utils import BaseTunerLayer

from surgery.capturing.stopped import stopped_at
from surgery.diagnostics import Diagnostic, Diagnostics, SurgeryError
from surgery.inject.compare import compare
from surgery.inject.fit import refusals
from surgery.inject.quantised import repacked
from surgery.inject.state import Adapted, base_model, layer_of, layer_tensors, trainable_tensors, wrappers
from surgery.methods import METHODS
from surgery.methods.setting import as_text
from surgery.planning.plan import Plan, Site
from surgery.planning.words import counted
from surgery.verifying.gradients import gradients_at
from surgery.verifying.memory import added_memory
from surgery.verifying.merging import merge, prove_layer, prove_outputs, worst_of
from surgery.verifying.outputs import call, difference, disabled, evaluating
from surgery.verifying.values import moved_at_random
from surgery.verifying.verification import Gradients, Identity, Merging, Proof, Verification

_SHOWN = 5
# A method that starts as the base model up to rounding may be off by this much of the largest output number.
_CLOSE = 1e-3
# How far fresh adapters are moved at random for a moment, to be merged.
_MOVED = 0.01


def verify(model: Adapted, plan: Plan, inputs: Any) -> Verification:
    """Check an adapted model against its plan: compare, call it with and without adapters, train a step, merge.

    `inputs` is an example call: a mapping of keyword arguments, a pair (args, kwargs), a sequence or one value.
    The calls are made in evaluation mode, on copies of the inputs, each with the random state of torch, Python and
    NumPy seeded. Weights, gradients, buffers, attributes of modules and random state are put back. Identity
    is required of fresh adapters only. Raises SurgeryError: E0509 where the adapted set differs, E0510 where the
    adapted model does not start as the base model, a gradient cannot reach an adapter, a step does not move one, or
    the merged model computes something else. A gradient that a frozen all-zero layer of the base model keeps away is a
    fact of that model: reported as W0906, not raised. E0511 for a plan that adapts nothing.
    """
    Diagnostics(refusals(plan)).raise_errors()
    Diagnostics(compare(model, plan)).raise_errors()
    Diagnostics(repacked(base_model(model))).raise_errors()
    with evaluating(model):
        try:
            identity = _identity(model, plan, inputs)
            gradients = gradients_at(model, plan, inputs)
            # Fresh adapters add nothing: that merging them is right would say nothing.
            fresh = identity.status != "skipped"
            moved = moved_at_random(trainable_tensors(model, plan), by=_MOVED) if fresh else nullcontext()
            with moved:
                merging = replace(_merging(model, plan, inputs), moved=_MOVED if fresh else 0.0)
        except Exception as error:
            raise SurgeryError(_fails(error)) from error
    # A model that two calls of differ is unlike its base model and its merged one for the same reason.
    found = Diagnostics([*(_broken(identity) or _unequal(merging)), *_unreached(gradients, plan)])
    found.raise_errors()
    return Verification(
        sites=len(plan.sites),
        added=plan.totals.added,
        trainable=sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad),
        memory=added_memory(model, plan),
        identity=identity,
        gradients=gradients,
        merging=merging,
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
    if gap == 0:
        return Identity("exact", gap)
    tolerance = 0.0
    if any(METHODS[site.method].start(site.settings) == "close" for site in plan.sites):
        tolerance = _CLOSE * max((tensor.abs().max().item() for tensor in base if tensor.numel()), default=0.0)
    return Identity("close" if gap <= tolerance else "broken", gap, tolerance=tolerance)


def _not_promised(model: Adapted, plan: Plan) -> str:
    """Why this model need not compute what its base model computes, or an empty text."""
    base = base_model(model)
    for site in plan.sites:
        method = METHODS[site.method]
        if method.start(site.settings) == "none":
            given = f" with init = {as_text(site.settings['init'])}" if "init" in site.settings else ""
            return f"{site.method}{given} promises none, at `{site.full_path}`"
        if method.writes_weights(site.settings):
            return f"{site.method} changes the base weights when it is applied, at `{site.full_path}`"
    for site in plan.sites:
        if not _is_fresh(site, layer_of(base, site)):
            return f"the adapters are no longer fresh, at `{site.full_path}`"
    for path, wrapper in wrappers(base):
        [trained] = wrapper.modules_to_save.values()
        original = wrapper.original_module.state_dict()
        if any(not torch.equal(value, original[name]) for name, value in trained.state_dict().items()):
            return f"the trained modules are no longer fresh, at `{path}`"
    return ""


def _is_fresh(site: Site, layer: BaseTunerLayer) -> bool:
    """Whether the parameters that start at one value are at it; a method that has none is taken to be fresh."""
    starts = METHODS[site.method].starts(site.settings)
    held = [
        (tensor, starts.get(name, starts.get(name.partition(".")[0])))
        for name, tensor in layer_tensors(layer, site.adapter)
    ]
    return all(start is None or bool((tensor == start).all()) for tensor, start in held)


def _merging(model: Adapted, plan: Plan, inputs: Any) -> Merging:
    layers = {site.full_path: layer_of(base_model(model), site) for site in plan.sites}
    proofs: list[Proof] = []
    skipped: dict[str, str] = {}
    for site in plan.sites:
        merged = merge(site, layers[site.full_path])
        if isinstance(merged, str):
            skipped[site.full_path] = merged
        else:
            proofs.append(prove_layer(site, layers[site.full_path], merged))
    sites = [site for site in plan.sites if site.full_path not in skipped]
    if not sites:
        return Merging(0, skipped=skipped)

    def again(site: Site) -> dict[str, torch.Tensor]:  # rather than holding all layers merged
        merged = merge(site, layers[site.full_path])
        assert not isinstance(merged, str)
        return merged

    return Merging(len(sites), worst_of(proofs), prove_outputs(model, sites, again, inputs), skipped)


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
            helps=("are the outputs random however torch, Python and NumPy are seeded? give other inputs",),
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
    if gradients.stuck:
        found.append(
            Diagnostic(
                "E0510",
                f"a gradient reaches {counted(len(gradients.stuck), 'adapted module')} and a step does not move them",
                notes=(", ".join(f"`{path}`" for path in gradients.stuck[:_SHOWN]),),
                helps=("is the dtype of the adapters too coarse? a step of AdamW changes a number by its rate, 0.01",),
            )
        )
    return found


def _unequal(merging: Merging) -> list[Diagnostic]:
    broken = [proof for proof in (merging.layers, merging.outputs) if proof and not proof.holds]
    return [
        Diagnostic(
            "E0510",
            f"merged into the weights, the adapters compute something else; {proof}",
            helps=(
                "export with `--to peft`; merging into a wider dtype (`model.float()` before applying) rounds less",
            ),
        )
        for proof in broken
    ]


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
