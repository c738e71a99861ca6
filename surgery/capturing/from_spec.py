"""The graph of the model that a spec names."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from surgery.capturing.build import NEEDS_VALUES, construct, example_inputs
from surgery.capturing.capture import graph_of, record_fake_model, record_live_model, versions_of
from surgery.capturing.initialisation import InitRecorder
from surgery.capturing.known import as_fake
from surgery.diagnostics import SurgeryError
from surgery.graph import Graph, Header
from surgery.language.spec import LoadedSpec
from surgery.planning.signature import model_signature

LARGEST_BUILT = 4 * 2**30  # bytes of parameters that are built for real where fake tensors will not do


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
        with mode, made:
            model = construct(spec)
    except NEEDS_VALUES:
        return _capture_built(spec, on_built)
    on_built(model)
    args, kwargs = as_fake(example_inputs(spec), mode)
    try:
        recorder = record_fake_model(model, args, kwargs, mode)
    except SurgeryError as error:
        if sum(p.numel() * p.element_size() for p in model.parameters()) <= LARGEST_BUILT:
            return _capture_built(spec, on_built)
        raise _at_inputs(error, spec) from error
    return graph_of(model, recorder, made.of, header_of(spec, model))


def _capture_built(spec: LoadedSpec, on_built: Callable[[torch.nn.Module], None]) -> Graph:
    made = InitRecorder()
    with made:
        model = construct(spec)
    on_built(model)
    try:
        recorder = record_live_model(model, *example_inputs(spec))
    except SurgeryError as error:
        raise _at_inputs(error, spec) from error
    return graph_of(model, recorder, made.of, header_of(spec, model))


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
