"""Adapters on single parameters: a matrix, or a stack of matrices such as the fused experts of a mixture.

PEFT wraps the module that holds the parameter and adds to the parameter while that module runs
(`peft.tuners.lora.layer.ParamWrapper`, for the `target_parameters` of a `LoraConfig`). Only its LoRA does.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from surgery.graph import Graph, Module, Parameter
from surgery.methods.geometry import is_plain_float, layer_of
from surgery.methods.method import Method, alpha_advice
from surgery.methods.setting import as_text

_SETTINGS = ("r", "alpha", "rslora", "init")  # what PEFT's wrapper of a parameter heeds; it refuses the others
_INITS = (True, False, "gaussian")


def parameter_refusal(
    graph: Graph, holder: Module, parameter: Parameter, method: Method, settings: Mapping[str, Any]
) -> str | None:
    """Why this method cannot adapt this parameter of `holder` by itself with these settings, or None."""
    if method.name != "lora":
        return f"PEFT adapts single parameters with LoRA, not with {method.title}"
    if not holder.path:
        return "it belongs to the model itself, and PEFT wraps modules inside of one"
    if len(parameter.shape) not in (2, 3):
        return f"PEFT adapts matrices and stacks of matrices, not a shape of {list(parameter.shape)}"
    if len(parameter.shape) == 3 and layer_of(holder):
        return f"PEFT would take a {holder.kind}'s kernels for a stack of matrices; adapt the module itself"
    if not is_plain_float(parameter.dtype):
        return f"it is quantised ({parameter.dtype})"
    if is_parametrised(graph, holder):
        return "its module is parametrised (torch.nn.utils.parametrize), so that it makes a weight and is none"
    return settings_refusal(method, settings)


def settings_refusal(method: Method, settings: Mapping[str, Any]) -> str | None:
    """Why these settings go on no parameter, whichever it is, or None."""
    for setting in method.settings:
        if setting.name not in _SETTINGS and settings[setting.name] != setting.default:
            return f"PEFT's wrapper of a parameter has no `{setting.name}`"
    if settings["init"] not in _INITS:
        return f"PEFT's wrapper of a parameter cannot start as `init = {as_text(settings['init'])}`"
    return None


def parameter_advice(settings: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Known advice that these settings go against, as `Method.advice`."""
    if not settings["rslora"]:
        yield from alpha_advice(settings["r"], settings["alpha"])


def is_parametrised(graph: Graph, holder: Module) -> bool:
    """Whether torch computes a parameter of this module from others, or the module holds such others."""
    return f"{holder.path}.parametrizations" in graph or ".parametrizations." in f".{holder.path}."


def added_to_parameter(parameter: Parameter, settings: Mapping[str, Any]) -> int:
    """A: (experts * r, inputs) and B: (outputs, r * experts), for a matrix or a stack of `experts` matrices."""
    *stack, rows, columns = parameter.shape
    experts: int = stack[0] if stack else 1
    return experts * int(settings["r"]) * (rows + columns)


def taken_by(targets: Iterable[str], parameters: Iterable[tuple[str, str]]) -> Iterator[tuple[str, str]]:
    """Those of `parameters`, (module, name), that PEFT adapts for these `target_parameters`.

    It compares whole paths and their ends, and leaves every `.base_layer` out of a module's path
    (`peft.tuners.tuners_utils.BaseTuner._inject_parameters`).
    """
    names = frozenset(targets)
    lengths = {target.count(".") + 1 for target in names}
    for module, name in parameters:
        segments = f"{without_wrappers(module)}.{name}".split(".")
        if any(".".join(segments[-length:]) in names for length in lengths if length <= len(segments)):
            yield module, name


def without_wrappers(module: str) -> str:
    """A module's path as PEFT reads it, which takes `.base_layer` for a wrapper of its own wherever it stands."""
    return module.replace(".base_layer", "")
