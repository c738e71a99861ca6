"""Whether an example call fits the signature of a model's forward."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import torch

from surgery.diagnostics import Diagnostic, SurgeryError
from surgery.language.nearest import did_you_mean


def check_call(model: torch.nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
    """Raise SurgeryError (E0508) if `model.forward` does not take these arguments, or needs others."""
    signature = inspect.signature(model.forward)
    try:
        signature.bind(*args, **kwargs)
    except TypeError as error:
        parameters = signature.parameters.values()
        names = [p.name for p in parameters if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)]
        wrong = [name for name in kwargs if name not in names]
        why = f"its forward takes no `{wrong[0]}`" if wrong else str(error)
        helps = did_you_mean(wrong[0] if wrong else "", names, f"it takes {', '.join(names) or 'nothing'}")
        message = f"the example call does not fit {type(model).__name__}: {why}"
        raise SurgeryError(Diagnostic("E0508", message, helps=helps)) from None
