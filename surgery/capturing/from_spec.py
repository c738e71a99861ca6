"""The graph of the model that a spec names."""

from __future__ import annotations

import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from surgery.capturing.build import NEEDS_VALUES, construct, example_inputs
from surgery.capturing.capture import graph_of, record_fake_model, record_live_model, versions_of
from surgery.capturing.initialisation import InitRecorder
from surgery.graph import Graph, Header
from surgery.language.spec import LoadedSpec
from surgery.planning.signature import model_signature


def capture_spec(spec: LoadedSpec) -> Graph:
    """Build the spec's model on fake tensors, at full size and without memory, and record its example call.

    Watching the construction gives every parameter's init with the line that made it. A model whose code
    needs values is built and run for real. Raises SurgeryError: E0107, E0507, E0508 and what `load` raises.
    """
    made = InitRecorder()
    mode = FakeTensorMode(allow_non_fake_inputs=True)
    try:
        with mode, made:
            model = construct(spec)
        with mode:
            args, kwargs = example_inputs(spec)
        recorder = record_fake_model(model, args, kwargs, mode)
    except NEEDS_VALUES:
        made = InitRecorder()
        with made:
            model = construct(spec)
        recorder = record_live_model(model, *example_inputs(spec))
    return graph_of(model, recorder, made.of, header_of(spec, model))


def header_of(spec: LoadedSpec, model: torch.nn.Module) -> Header:
    name, settings = model_signature(spec)
    inputs = " ".join(spec.tree.inputs.span.text.split()) if spec.tree.inputs else ""
    return Header(model=name, settings=settings, inputs=inputs, versions=versions_of(model))
