"""The graph of the model that a spec names."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import replace

import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn.parameter import is_lazy

from surgery.capturing.build import NEEDS_VALUES, Call, construct, example_inputs
from surgery.capturing.capture import graph_of, record_fake_model, record_live_model, versions_of
from surgery.capturing.conversion import converting_fake_modules
from surgery.capturing.initialisation import InitRecorder
from surgery.capturing.known import as_fake
from surgery.capturing.signature import check_call
from surgery.collector import paused_collector
from surgery.diagnostics import SurgeryError
from surgery.graph import Graph, Header
from surgery.language.spec import LoadedSpec
from surgery.planning.signature import model_signature

_SEED = 0
LARGEST_BUILT = 4 * 2**30  # bytes of parameters that are built for real where fake tensors will not do


@paused_collector()
def capture_spec(spec: LoadedSpec, *, on_built: Callable[[torch.nn.Module], None] = lambda model: None) -> Graph:
    """Build the spec's model on fake tensors, at full size and without memory, and record its example call.

    Watching the construction gives every parameter's init with the line that made it. A model whose code needs
    values, or does not run on fake tensors, is built and run for real if it is small enough. `on_built` looks at the
    model before it runs; what it raises stops the capture. Raises SurgeryError: E0107, E0507, E0508 and what `load`
    raises.
    """
    mode = FakeTensorMode(allow_non_fake_inputs=True)
    made = InitRecorder(mode)
    try:
        with mode, made, converting_fake_modules(), warnings.catch_warnings():
            # Of a deep copy, as of the layers of `nn.TransformerEncoder`: nothing that the user could change.
            warnings.filterwarnings("ignore", message="Accessing the data pointer of FakeTensor")
            model = construct(spec)
    except NEEDS_VALUES:
        return _capture_built(spec, on_built)
    except SurgeryError as error:
        if not _may_be_built(spec, error):
            raise
        return _capture_built(spec, on_built)
    on_built(model)
    args, kwargs = _example_call(spec, model)
    args, kwargs = as_fake((args, kwargs), mode)
    try:
        recorder = record_fake_model(model, args, kwargs, mode)
    except SurgeryError as error:
        if _size(model) <= LARGEST_BUILT:
            return _capture_built(spec, on_built)
        raise _at_inputs(error, spec) from error
    return graph_of(model, recorder, made.of, header_of(spec, model))


def _capture_built(spec: LoadedSpec, on_built: Callable[[torch.nn.Module], None]) -> Graph:
    made = InitRecorder()
    # Values decide where such a model goes: the same ones each time, or no two captures would agree.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(_SEED)
        with made:
            model = construct(spec)
        on_built(model)
        try:
            recorder = record_live_model(model, *_example_call(spec, model))
        except SurgeryError as error:
            raise _at_inputs(error, spec) from error
    return graph_of(model, recorder, made.of, header_of(spec, model))


def _may_be_built(spec: LoadedSpec, error: SurgeryError) -> bool:
    """Whether a model whose construction failed on fake tensors may do better on real ones, and is small enough.

    Some code fills tensors by way of numpy, which fake tensors refuse.
    """
    if any(found.code != "E0508" for found in error.diagnostics):
        return False
    try:
        with torch.device("meta"):
            return _size(construct(spec)) <= LARGEST_BUILT
    except SurgeryError:
        return False


def _size(model: torch.nn.Module) -> int:
    """Bytes of a model's parameters; one that waits for its first call to know its shape counts nothing yet."""
    return sum(p.numel() * p.element_size() for p in model.parameters() if not is_lazy(p))


def _example_call(spec: LoadedSpec, model: torch.nn.Module) -> Call:
    args, kwargs = example_inputs(spec)
    try:
        check_call(model, args, kwargs)
    except SurgeryError as error:
        raise _at_inputs(error, spec) from None
    return args, kwargs


def _at_inputs(error: SurgeryError, spec: LoadedSpec) -> SurgeryError:
    """The same diagnostics, pointing at the statement that gave the example call."""
    assert spec.tree.inputs
    return SurgeryError(
        replace(
            found,
            span=spec.tree.inputs.span,
            label="this call",
            notes=(*found.notes, *([f"at {found.place}"] if found.place else [])),
        )
        for found in error.diagnostics
    )


def header_of(spec: LoadedSpec, model: torch.nn.Module) -> Header:
    """What a graph file says of where it came from."""
    name, settings = model_signature(spec)
    inputs = " ".join(spec.tree.inputs.span.text.split()) if spec.tree.inputs else ""
    return Header(model=name, settings=settings, inputs=inputs, versions=versions_of(model))
