"""Which tensors train: exactly those of the plan, checked when the optimiser is made and at every save."""

from __future__ import annotations

from collections import Counter

from torch import nn

from surgery.diagnostics import Diagnostic, SurgeryError
from surgery.planning import Plan

_WRAPPING = "base_model.model."  # what PEFT puts before the user's paths


def trainable_parameters(model: nn.Module, plan: Plan) -> dict[str, nn.Parameter]:
    """The parameters with `requires_grad`, by full name, in the model's order.

    Raises SurgeryError (E0509) unless they are those of the plan: as many numbers at every site as it adds
    there, and beside them only parameters of modules it trains in full, as many as it counts.
    """
    trainable = {name: p for name, p in model.named_parameters() if p.requires_grad}
    adapters, trained = {site.path: site.adapter for site in plan.sites}, frozenset(plan.trained)
    at_site: Counter[str] = Counter()
    others: list[str] = []
    in_full = 0
    for name, parameter in trainable.items():
        path = _owner(name, adapters)
        if path is not None and adapters[path] in name.removeprefix(_WRAPPING + path).split("."):
            at_site[path] += parameter.numel()
        elif _owner(name, trained) is not None:
            in_full += parameter.numel()
        else:
            others.append(name)
    problems = [f"`{name}` trains, but the plan has it frozen" for name in others]
    problems += [
        f"`{site.path}` trains {at_site[site.path]} numbers, the plan adds {site.added}"
        for site in plan.sites
        if at_site[site.path] != site.added
    ]
    if in_full != plan.totals.trained:
        problems.append(f"{in_full} numbers of modules train in full, the plan has {plan.totals.trained}")
    if problems:
        raise _differs(problems)
    return trainable


def _owner(name: str, paths: frozenset[str] | dict[str, str]) -> str | None:
    """The longest of `paths` that `name`, a parameter of the adapted model, lies in."""
    path = name.removeprefix(_WRAPPING)
    while path:
        path = path.rpartition(".")[0]
        if path in paths:
            return path
    return "" if "" in paths else None


def _differs(problems: list[str]) -> SurgeryError:
    more = (f"and {len(problems) - 8} more",) if len(problems) > 8 else ()
    return SurgeryError(
        Diagnostic(
            "E0509",
            "what trains is not what the plan says",
            notes=(*problems[:8], *more),
            helps=("adapt a fresh model with `surgery.apply(model, plan)` and leave `requires_grad` as it sets it",),
        )
    )
