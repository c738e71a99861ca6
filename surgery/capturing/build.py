"""The model and the example call that a spec names, built. The only place that runs code a spec points to."""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import torch
from torch._subclasses.fake_tensor import DataDependentOutputException, DynamicOutputShapeException

from surgery.capturing.stopped import stopped_at
from surgery.capturing.weights import load_weights
from surgery.diagnostics import Diagnostic, SurgeryError
from surgery.language import tree
from surgery.language.nearest import did_you_mean
from surgery.language.spec import LoadedSpec

Call: TypeAlias = tuple[tuple[Any, ...], dict[str, Any]]

_NAMES_SHOWN = 12
_DTYPES = {
    "f16": torch.float16,
    "bf16": torch.bfloat16,
    "f32": torch.float32,
    "f64": torch.float64,
    "i8": torch.int8,
    "i16": torch.int16,
    "i32": torch.int32,
    "i64": torch.int64,
    "u8": torch.uint8,
    "bool": torch.bool,
}


# What fake tensors raise when the code asks for a value they do not have.
NEEDS_VALUES: tuple[type[Exception], ...] = (DataDependentOutputException, DynamicOutputShapeException)


def build_model(spec: LoadedSpec, *, weights: Path | Sequence[Path] | None = None, seed: int = 0) -> torch.nn.Module:
    """The spec's model on the CPU, with the weights of a checkpoint if one is given, mapped as the spec says.

    What the model draws at random comes from `seed`, so that `verify`, a run, its resumption and its export all
    build the same model. Raises SurgeryError as `construct` and `load_weights` do.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = construct(spec)
    if weights:
        load_weights(model, weights, spec.tree.weights)
    return model


def construct(spec: LoadedSpec) -> torch.nn.Module:
    """Call what the spec's `model` names with its settings.

    Raises SurgeryError: E0107 without a `model`, E0507 for a name that cannot be imported, E0106 for an argument
    that the callee does not take, E0508 with the line of the model's code where building it stopped.
    """
    statement = spec.tree.model
    if statement is None:
        raise SurgeryError(_without(spec, "model", "model my_package.models:build { ... }"))
    model = _call(spec, statement.callee, statement.settings)
    if not isinstance(model, torch.nn.Module):
        message = f"`{statement.callee.name}` made a {type(model).__name__}, not a torch.nn.Module"
        raise SurgeryError(
            Diagnostic("E0508", message, statement.callee.span, helps=("name a class or function that makes one",))
        )
    return model


def example_inputs(spec: LoadedSpec, *, seed: int = 0) -> Call:
    """The spec's example call: (args, kwargs) with tensors on the CPU.

    Floats are standard normal, integers uniform in [0, bound) or [0, 2) without a bound, bools all true; from a
    generator with `seed`. Raises SurgeryError: E0107 without `inputs`, else as `construct`.
    """
    statement = spec.tree.inputs
    if statement is None:
        raise SurgeryError(_without(spec, "inputs", "inputs { input_ids = i64[2, 16] < 1000 }"))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if statement.callee:
            return _as_call(_call(spec, statement.callee, ()))
        return (), {setting.name.name: _value(spec, setting.value) for setting in statement.settings}


def resolve(reference: tree.Reference) -> Any:
    """Import what a `package.module:attribute` names. Raises SurgeryError (E0507)."""
    package = reference.module.partition(".")[0]
    try:
        found = importlib.import_module(reference.module)
    except ModuleNotFoundError as error:
        missing = error.name or reference.module
        ours = reference.module == missing or reference.module.startswith(missing + ".")
        why = (
            f"there is no module `{missing}`"
            if ours
            else f"`{reference.module}` needs `{missing}`, which is not installed"
        )
        help = f"install the package that has `{missing}`" + ("" if missing != package else ", or correct the name")
        raise SurgeryError(Diagnostic("E0507", why, reference.span, helps=(help,))) from None
    except Exception as error:
        raise SurgeryError(
            Diagnostic(
                "E0507",
                f"importing `{reference.module}` failed: {type(error).__name__}: {error}",
                reference.span,
                place=stopped_at(error),
                helps=(f"see what `python -c 'import {reference.module}'` says",),
            )
        ) from error
    for name in reference.attribute.split("."):
        if not hasattr(found, name):
            helps = did_you_mean(name, dir(found), "check the spelling")
            message = f"`{reference.module}` has no `{name}`"
            raise SurgeryError(Diagnostic("E0507", message, reference.span, helps=helps))
        found = getattr(found, name)
    return found


def _call(spec: LoadedSpec, reference: tree.Reference, settings: tuple[tree.Setting, ...]) -> Any:
    callee = resolve(reference)
    arguments = {setting.name.name: _value(spec, setting.value) for setting in settings}
    _check_arguments(reference, callee, settings)
    try:
        return callee(**arguments)
    except SurgeryError:
        raise
    except NEEDS_VALUES:
        raise
    except Exception as error:
        raise SurgeryError(
            Diagnostic(
                "E0508",
                f"`{reference.name}` could not be built",
                reference.span,
                notes=(f"{type(error).__name__}: {error}", f"at {stopped_at(error)}"),
                helps=("check the settings against what the class takes",),
            )
        ) from error


def _check_arguments(reference: tree.Reference, callee: Callable[..., Any], settings: tuple[tree.Setting, ...]) -> None:
    """E0106 for the settings that `callee` does not take, E0107 for what it needs and does not get."""
    try:
        parameters = inspect.signature(callee).parameters
    except (TypeError, ValueError):
        return
    open_ended = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    names = [name for name, p in parameters.items() if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    found = []
    takes = ", ".join(names[:_NAMES_SHOWN]) + (", ..." if len(names) > _NAMES_SHOWN else "")
    for setting in settings:
        if setting.name.name not in names and not open_ended:
            helps = did_you_mean(setting.name.name, names, f"it takes {takes or 'nothing'}")
            message = f"`{reference.name}` takes no `{setting.name.name}`"
            found.append(Diagnostic("E0106", message, setting.name.span, helps=helps))
    given = {setting.name.name for setting in settings}
    missing = [n for n in names if parameters[n].default is inspect.Parameter.empty and n not in given]
    if missing and not found:
        help = f"give it: {'  '.join(f'{name} = ...' for name in missing)}"
        message = f"`{reference.name}` needs {', '.join(f'`{name}`' for name in missing)}"
        found.append(Diagnostic("E0107", message, reference.span, helps=(help,)))
    if found:
        raise SurgeryError(found)


def _value(spec: LoadedSpec, expression: tree.Expression) -> Any:
    match expression:
        case tree.Construction():
            return _call(spec, expression.callee, expression.settings)
        case tree.Reference():
            return resolve(expression)
        case tree.Tensor():
            return _tensor(spec, expression)
        case tree.Items():
            return [_value(spec, item) for item in expression.items]
        case _:
            return spec.evaluate(expression)


def _tensor(spec: LoadedSpec, tensor: tree.Tensor) -> torch.Tensor:
    dtype = _DTYPES[tensor.dtype]
    shape = [int(spec.evaluate(size)) for size in tensor.shape]
    if dtype is torch.bool:
        return torch.ones(shape, dtype=dtype)
    if dtype.is_floating_point:
        return torch.randn(shape, dtype=torch.float32).to(dtype)
    bound = 2 if tensor.below is None else int(spec.evaluate(tensor.below))
    return torch.randint(0, bound, shape, dtype=dtype)


def _as_call(result: Any) -> Call:
    """What an `inputs` function returned, as (args, kwargs): a dict, a tensor, a tuple of arguments, or the pair."""
    if isinstance(result, Mapping):
        return (), dict(result)
    if isinstance(result, tuple):
        if len(result) == 2 and isinstance(result[0], tuple) and isinstance(result[1], Mapping):
            return result[0], dict(result[1])
        return result, {}
    return (result,), {}


def _without(spec: LoadedSpec, what: str, example: str) -> Diagnostic:
    return Diagnostic(
        "E0107",
        f"the spec has no `{what}`, so there is nothing to build",
        place=spec.source.name,
        helps=(f"add one, such as `{example}`",),
    )


def allow_local_modules() -> None:
    """Let `model`, `inputs` and tasks name modules of the current folder, as `python -m` does."""
    if "" not in sys.path:
        sys.path.insert(0, "")
