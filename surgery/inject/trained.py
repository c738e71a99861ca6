"""The modules that a plan trains in full, as PEFT's `modules_to_save` takes them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from peft.utils.other import ModulesToSaveWrapper
from torch import nn

from surgery.inject.tree import named_modules

_CONTAINERS = (nn.ModuleDict, nn.ModuleList, nn.ParameterDict, nn.ParameterList)


def saved_modules(model: nn.Module, trained: Iterable[str]) -> list[str]:
    """The outermost modules at or below `trained` that hold tensors of their own.

    PEFT wraps a module as a whole and cannot wrap a ModuleList; wrapping what holds the tensors leaves the
    containers, which the model's code may index or iterate, as they are. In an adapted model these are PEFT's wrappers.
    """
    found: list[str] = []
    for path in trained:
        found.extend(_holders(model.get_submodule(path), path))
    holders = dict.fromkeys(found)
    return [path for path in holders if not any(outer in holders for outer in _ancestors(path))]


def _ancestors(path: str) -> Iterator[str]:
    """The paths of the modules that hold this one, the innermost first."""
    while "." in path:
        path = path.rpartition(".")[0]
        yield path


def _holders(module: nn.Module, path: str) -> Iterator[str]:
    own = [*module.parameters(recurse=False), *module.buffers(recurse=False)]
    if own or isinstance(module, ModulesToSaveWrapper):
        yield path
        return
    for name, child in module.named_children():
        yield from _holders(child, f"{path}.{name}" if path else name)


def unwrappable(model: nn.Module, paths: Iterable[str]) -> list[str]:
    """Those of these modules that PEFT refuses to wrap: containers that hold parameters and are never called."""
    return [path for path in paths if isinstance(model.get_submodule(path), _CONTAINERS)]


def selected_by_suffix(model: nn.Module, names: Iterable[str]) -> set[str]:
    """The modules that PEFT would wrap for these `modules_to_save` (`peft.utils.other._set_trainable`: by ending)."""
    endings = tuple(names)
    return {path for path, _ in named_modules(model, repeated=True) if endings and path.endswith(endings)}
