"""Gradient checkpointing of chosen modules: their activations are recomputed in the backward pass."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial, wraps
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from surgery.diagnostics import Diagnostic, SurgeryError

# Keyword arguments by which transformers' layers get a key/value cache. Recomputing would fill it twice.
_CACHES = ("past_key_values", "past_key_value", "layer_past")


def checkpointable(model: nn.Module, paths: Sequence[str]) -> dict[str, nn.Module]:
    """The modules at `paths` of the user's model, by path.

    Raises SurgeryError: E0506 for a path that the model lacks, E0515 for a container without a forward.
    """
    found = dict(model.named_modules(remove_duplicate=False))
    problems = [_cannot_checkpoint(path, found) for path in paths]
    if any(problems):
        raise SurgeryError(problem for problem in problems if problem)
    return {path: found[path] for path in paths}


def _cannot_checkpoint(path: str, found: dict[str, nn.Module]) -> Diagnostic | None:
    if path not in found:
        return Diagnostic(
            "E0506",
            f"the plan checkpoints `{path}`, which the model does not have",
            helps=("capture and plan again with this version of the model",),
        )
    # torch marks a module that defines no forward of its own (ModuleList, ModuleDict) in this way.
    if getattr(type(found[path]).forward, "__name__", "") != "_forward_unimplemented":
        return None
    return Diagnostic(
        "E0515",
        f"the plan checkpoints `{path}`, a {type(found[path]).__name__}, which has no forward to recompute",
        helps=(f'checkpoint the modules in it: `checkpoint path("{path}.*") {{ every = 1 }}`',),
    )


@contextmanager
def gradient_checkpointing(modules: Sequence[nn.Module]) -> Iterator[None]:
    """Recompute the activations of `modules` while training; their forwards are restored at the end.

    Non-reentrant, so that gradients reach adapters inside a module whose inputs need none, and with the
    generators' state kept, so that dropout is the same in both passes: gradients equal the plain ones.
    """
    own = [(module, module.__dict__.get("forward")) for module in modules]
    for module, _ in own:
        module.forward = _recomputed(module, module.forward)
    try:
        yield
    finally:
        for module, forward in own:
            if forward is None:
                del module.forward
            else:
                module.forward = forward


def _recomputed(module: nn.Module, forward: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(forward)
    def run(*args: Any, **kwargs: Any) -> Any:
        if not (module.training and torch.is_grad_enabled()):
            return forward(*args, **kwargs)
        kwargs = {name: None if name in _CACHES else value for name, value in kwargs.items()}
        return checkpoint(partial(forward, **kwargs), *args, use_reentrant=False, preserve_rng_state=True)

    return run
