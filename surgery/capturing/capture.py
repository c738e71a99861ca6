"""A live model to a Graph."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from importlib.metadata import packages_distributions, version
from typing import Any

import torch
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    FakeTensor,
    FakeTensorMode,
)

from surgery.capturing.build import NEEDS_VALUES
from surgery.capturing.convert import modules_of, nodes_of
from surgery.capturing.initialisation import InitLookup, init_from_value
from surgery.capturing.known import as_fake, fake_tensor
from surgery.capturing.quantised import without_repacking
from surgery.capturing.recorder import Recorder
from surgery.capturing.signature import check_call
from surgery.capturing.stopped import stopped_at
from surgery.capturing.untaken import untaken_paths
from surgery.capturing.untouched import left_as_it_was
from surgery.collector import paused_collector
from surgery.diagnostics import Diagnostic, SurgeryError
from surgery.facts import with_facts
from surgery.graph import Graph, Header


@paused_collector()
def capture(model: torch.nn.Module, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None) -> Graph:
    """Record one call of `model` on fake tensors and return its graph with all facts.

    Nothing is computed and no weight is touched; `model` may lie on any device, `meta` included. Where the
    model's control flow depends on values, the call runs on its real tensors instead. The model is left as
    it was. What it was built from is not known here, so init facts come from live values: all zeros is
    zero, anything else unknown.

    Raises SurgeryError (E0508) with what stopped the run, where, and what to try.
    """
    given = kwargs or {}
    check_call(model, args, given)
    try:
        with left_as_it_was(model):
            recorder = _record_fake(model, args, given, FakeTensorMode(allow_non_fake_inputs=True))
    except (SurgeryError, DataDependentOutputException, DynamicOutputShapeException) as error:
        # Some ops check more on fake tensors than they need on real ones.
        if any(tensor.is_meta for tensor in model.parameters()):
            raise error if isinstance(error, SurgeryError) else _stopped(model, error) from error
        recorder = record_live_model(model, args, given)
    return graph_of(model, recorder, init_from_value, Header(versions=versions_of(model)))


def graph_of(model: torch.nn.Module, recorder: Recorder, init: InitLookup, header: Header) -> Graph:
    """Join a module tree, a recorded run and what is known of its making, and derive the facts."""
    modules = modules_of(model, recorder.calls, init)
    untaken = untaken_paths(model, recorder.calls)
    return with_facts(Graph(header, modules, nodes_of(recorder.graph)), untaken.reads, untaken.switches)


def record_live_model(model: torch.nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Recorder:
    """Record a call on real tensors, where control flow depends on values. Raises SurgeryError (E0508)."""
    with left_as_it_was(model), without_repacking(model):
        return _record(model, args, kwargs)


def record_fake_model(model: torch.nn.Module, args: Any, kwargs: Mapping[str, Any], mode: FakeTensorMode) -> Recorder:
    """Record a call of a model that was made for it, of fake tensors of `mode`. Raises SurgeryError (E0508)."""
    model.eval()
    with mode:
        try:
            return _record(model, args, kwargs, mode)
        except NEEDS_VALUES as error:
            raise _stopped(model, error) from error


def _record_fake(
    model: torch.nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any], mode: FakeTensorMode
) -> Recorder:
    """Run with every parameter, buffer and input replaced by a fake tensor for the length of the call."""
    fake_args, fake_kwargs = as_fake((tuple(args), dict(kwargs)), mode)
    with _swapped(model, lambda tensor: fake_tensor(tensor, mode)), mode:
        return _record(model, fake_args, fake_kwargs, mode)


@contextmanager
def _swapped(model: torch.nn.Module, fake: Any) -> Iterator[None]:
    """Every parameter and buffer of `model` replaced, and put back; a shared one stays shared."""
    made: dict[int, torch.Tensor] = {}
    before: list[tuple[dict[str, Any], str, torch.Tensor]] = []
    try:
        for module in model.modules():
            for holder in _tensors_by_name(module):
                for name, tensor in holder.items():
                    if tensor is None or isinstance(tensor, FakeTensor):
                        continue
                    if id(tensor) not in made:
                        made[id(tensor)] = _like(tensor, fake(tensor))
                    before.append((holder, name, tensor))
                    holder[name] = made[id(tensor)]
        yield
    finally:
        for holder, name, tensor in before:
            holder[name] = tensor


def _tensors_by_name(module: torch.nn.Module) -> tuple[dict[str, Any], dict[str, Any]]:
    return module._parameters, module._buffers


def _like(tensor: torch.Tensor, fake: torch.Tensor) -> torch.Tensor:
    if isinstance(tensor, torch.nn.Parameter):
        fake._is_param = True  # what torch.nn.Parameter() does, without a copy
        fake.requires_grad = tensor.requires_grad
    return fake


def _record(
    model: torch.nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any], fake: FakeTensorMode | None = None
) -> Recorder:
    """Run `model` once under a recorder. What is not about missing values becomes SurgeryError (E0508)."""
    names = {id(tensor): name for name, tensor in [*model.named_parameters(), *model.named_buffers()]}
    recorder = Recorder(names, fake)
    recorder.inputs(args, kwargs)
    try:
        with _quiet(), torch.enable_grad(), recorder.running(model), recorder:
            result = model(*args, **kwargs)
    except NEEDS_VALUES:
        raise
    except Exception as error:
        raise _stopped(model, error) from error
    recorder.output(result)
    return recorder


@contextmanager
def _quiet() -> Iterator[None]:
    """No log of what an op does not do on fake tensors: the run on real ones, or a diagnostic, says it."""
    logger = logging.getLogger("torch._subclasses.fake_tensor")
    before = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(before)


def _stopped(model: torch.nn.Module, error: Exception) -> SurgeryError:
    if isinstance(error, NEEDS_VALUES):
        why = f"its control flow depends on values ({error}), which fake tensors do not have"
        way_out = "capture a small, real instance: build the model without `meta`, or give inputs that avoid the branch"
    else:
        why = f"{type(error).__name__}: {error}"
        way_out = "check `inputs` (names, shapes, dtypes, bounds) against the model's forward"
    return SurgeryError(
        Diagnostic(
            "E0508",
            f"the example call of {type(model).__name__} did not run",
            place=stopped_at(error),
            notes=(why,),
            helps=(way_out,),
        )
    )


@cache
def _distributions() -> Mapping[str, list[str]]:
    """The distributions that each package came with; looking through them takes longer than a small capture."""
    return packages_distributions()


def versions_of(model: torch.nn.Module) -> dict[str, str]:
    """Versions of torch and of the package that the model's class comes from."""
    package = type(model).__module__.partition(".")[0]
    found = {"torch": torch.__version__.partition("+")[0]}
    for distribution in _distributions().get(package, ()):
        found[distribution] = version(distribution)
    return dict(sorted(found.items()))
