"""Adapt PyTorch models by a small declarative file: plan on the model's graph, then apply exactly.

    spec = surgery.load("f5.surg", rank=16)
    graph = surgery.capture(model, kwargs={...})      # or surgery.read_graph("f5.graph.json")
    plan = surgery.plan(spec, graph)
    model = surgery.apply(model, plan)
    surgery.verify(model, plan, inputs)
    surgery.train(model, plan, task, config)
    surgery.export(model, plan, directory, to="peft")

Names are loaded when first used: planning never imports torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from surgery.capturing import capture
    from surgery.diagnostics import Diagnostic, SurgeryError
    from surgery.exporting import export
    from surgery.graph import Graph
    from surgery.graph.file import read_graph
    from surgery.inject import apply, load_adapter
    from surgery.language import load
    from surgery.planning import Plan, plan, read_plan
    from surgery.runtime import Runtime
    from surgery.training import TrainConfig, train
    from surgery.verifying import verify

__version__ = "0.1.0"

_HOMES = {
    "Diagnostic": "surgery.diagnostics",
    "Graph": "surgery.graph",
    "Plan": "surgery.planning",
    "Runtime": "surgery.runtime",
    "SurgeryError": "surgery.diagnostics",
    "TrainConfig": "surgery.training",
    "apply": "surgery.inject",
    "capture": "surgery.capturing",
    "export": "surgery.exporting",
    "load": "surgery.language",
    "load_adapter": "surgery.inject",
    "plan": "surgery.planning",
    "read_graph": "surgery.graph.file",
    "read_plan": "surgery.planning",
    "train": "surgery.training",
    "verify": "surgery.verifying",
}

__all__ = [
    "Diagnostic",
    "Graph",
    "Plan",
    "Runtime",
    "SurgeryError",
    "TrainConfig",
    "apply",
    "capture",
    "export",
    "load",
    "load_adapter",
    "plan",
    "read_graph",
    "read_plan",
    "train",
    "verify",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'surgery' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
