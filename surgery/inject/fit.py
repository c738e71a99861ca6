"""Whether a live model is the one that a plan was made for. Nothing is changed here."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from peft import PeftMixedModel, PeftModel
from peft.tuners.tuners_utils import BaseTunerLayer
from peft.utils.other import AuxiliaryTrainingWrapper
from torch import nn
from transformers.pytorch_utils import Conv1D

from surgery.diagnostics import Diagnostic
from surgery.inject.parameters import misfit
from surgery.inject.quantised import size_of
from surgery.inject.tree import named_modules, named_parameters
from surgery.methods import METHODS
from surgery.planning.plan import Plan, Site
from surgery.planning.words import counted

# Classes whose names others may have too.
_CLASSES = {cls.__name__: cls for cls in (nn.Embedding, nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear, Conv1D)}
_SHOWN = 5


def refusals(plan: Plan) -> Iterator[Diagnostic]:
    """Why this plan cannot be applied to any model (E0511)."""
    if not plan.applyable:
        yield Diagnostic(
            "E0511",
            "the plan has errors, so it is not applied",
            place=plan.spec,
            notes=tuple(f"{d.code}: {d.message}" for d in plan.diagnostics if d.severity == "error"),
            helps=("correct the spec until `surgery plan` shows no error",),
        )
    elif not plan.sites:
        yield Diagnostic(
            "E0511",
            "the plan adapts no module, so there is no adapter to make",
            place=plan.spec,
            helps=("add a target, or switch one on",),
        )


def misfits(model: nn.Module, plan: Plan) -> Iterator[Diagnostic]:
    """How this model differs from the one the plan was made for (E0506)."""
    if _is_adapted(model):
        yield Diagnostic(
            "E0506", "the model already carries PEFT adapters", helps=("apply the plan to the base model",)
        )
        return
    yield from other_modules(dict(named_modules(model, repeated=True)), plan.sites, plan.trained)
    yield from offloaded(model, [*(site.path for site in plan.sites), *plan.trained])
    total = count_parameters(model)
    if total != plan.totals.total:
        yield _misfit(
            "this model has another number of parameters than the plan's",
            [f"{total:,} here, {plan.totals.total:,} in the plan: a difference of {total - plan.totals.total:+,}"],
        )


def other_modules(
    modules: Mapping[str, nn.Module], sites: Iterable[Site], trained: Iterable[str]
) -> Iterator[Diagnostic]:
    """How these modules, by all their paths, differ from those that the sites were planned for (E0506)."""
    paths: dict[int, list[str]] = {}
    for path, module in modules.items():
        paths.setdefault(id(module), []).append(path)
    differences = [text for site in sites if (text := _site_difference(site, modules.get(site.path), paths))]
    differences += [f"`{path}`, to be trained, does not exist" for path in trained if path not in modules]
    if differences:
        more = len(differences) - _SHOWN
        notes = differences[:_SHOWN] + ([f"and {more} more"] if more > 0 else [])
        yield _misfit(f"{counted(len(differences), 'module')} of the plan cannot be adapted as planned here", notes)


def offloaded(model: nn.Module, paths: Iterable[str]) -> Iterator[Diagnostic]:
    """Modules at these paths whose weights accelerate brings in only while they run (E0506).

    Their adapters would stay on meta like the weights: without values, for an output of whatever lies in memory.
    """
    if not any(_is_offloading(vars(module).get("_hf_hook")) for _, module in named_modules(model)):
        return
    modules = dict(named_modules(model, repeated=True))
    away = [path for path in paths if path in modules and any(p.is_meta for p in modules[path].parameters())]
    if away:
        yield Diagnostic(
            "E0506",
            f"accelerate keeps the weights of {counted(len(away), 'module')} elsewhere, beginning with `{away[0]}`",
            notes=("adapters made now would be on meta and have no values",),
            helps=("apply the plan to the model as it was loaded, and dispatch or offload the adapted model",),
        )


def _is_offloading(hook: Any) -> bool:
    return any(getattr(one, "offload", False) is True for one in getattr(hook, "hooks", (hook,)))


def _misfit(message: str, notes: list[str]) -> Diagnostic:
    help = "capture the graph of this model and plan again, or build the model that the spec describes"
    return Diagnostic("E0506", message, notes=tuple(notes), helps=(help,))


def _is_adapted(model: nn.Module) -> bool:
    wrapped = isinstance(model, (PeftModel, PeftMixedModel)) or hasattr(model, "peft_config")
    return wrapped or any(isinstance(m, (BaseTunerLayer, AuxiliaryTrainingWrapper)) for _, m in named_modules(model))


def _site_difference(site: Site, module: nn.Module | None, paths: dict[int, list[str]]) -> str | None:
    if module is None:
        return f"`{site.path}` does not exist"
    if len(paths[id(module)]) > 1:
        others = ", ".join(f"`{path}`" for path in paths[id(module)] if path != site.path)
        return f"`{site.path}` is the same module as {others}, and PEFT would adapt one of these places only"
    if site.parameter:
        return misfit(site, module)
    kind = type(module).__name__
    if kind != site.kind or not isinstance(module, _CLASSES.get(kind, nn.Module)):
        return f"`{site.path}` is a {type(module).__module__}.{kind}, the plan says {site.kind}"
    shape = size_of(module) if getattr(module, "weight", None) is not None else []
    if shape != site.shape:
        return f"`{site.path}` has a weight of shape {shape}, the plan says {site.shape}"
    if site.method == "lora" and set(getattr(module, "dilation", ())) - {1}:
        return f"`{site.path}` is a convolution with a dilation, which PEFT's LoRA drops"
    return None


def count_parameters(model: nn.Module) -> int:
    """How many numbers a model's parameters hold; tied ones count once, as in the graph.

    Those of an `nn.LSTM` on a GPU lie in one storage, at different places.
    """
    held = (parameter for _, _, parameter in named_parameters(model))
    return sum({(p.untyped_storage()._cdata, p.storage_offset()): p.numel() for p in held}.values())


def unknown_methods(plan: Plan) -> Iterator[Diagnostic]:
    """Sites of a method that this version does not have: the plan was written by another one (E0401)."""
    for method in dict.fromkeys(site.method for site in plan.sites if site.method not in METHODS):
        yield Diagnostic(
            "E0401",
            f"this version of surgery has no method `{method}`",
            place=plan.spec,
            helps=(f"it has {', '.join(METHODS)}; plan again with this version",),
        )
