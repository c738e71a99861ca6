"""The model that a spec names, as text that a graph file records and a plan compares."""

from __future__ import annotations

import json
from typing import Any

from surgery.diagnostics import Diagnostic
from surgery.graph import Header
from surgery.language import tree
from surgery.language.spec import LoadedSpec


def model_signature(spec: LoadedSpec) -> tuple[str, str]:
    """The model and its settings: `f5_tts.model:DiT` and `dim = 1024 depth = 22`, with `param`s substituted.

    What a `json("...")` file holds enters the text, so that a changed file is noticed. Two empty texts where
    the spec has no `model`. Raises SurgeryError if a value cannot be evaluated.
    """
    model = spec.tree.model
    if model is None:
        return "", ""
    return model.callee.name, _settings_text(spec, model.settings)


def check_model(spec: LoadedSpec, header: Header) -> Diagnostic | None:
    """E0503 if the graph was captured from another model than the spec names, or with other settings.

    A spec that names no model, and a graph captured from a live model, fit anything.
    """
    node = spec.tree.model
    if node is None or not header.model:
        return None
    model, settings = model_signature(spec)
    if model != header.model:
        difference = f"the graph is of {header.model}"
    elif settings != header.settings:
        difference = f"the graph was captured with {header.settings or 'no settings'}"
    else:
        return None
    return Diagnostic(
        "E0503",
        f"the graph was captured from another model than {spec.path.name} names",
        node.callee.span,
        label=f"names {model}",
        notes=(difference, *([f"the spec has {settings or 'no settings'}"] if model == header.model else [])),
        helps=(f'capture it again with `surgery capture {spec.source.name}`, or name its graph with `graph "..."`',),
    )


def _settings_text(spec: LoadedSpec, settings: tuple[tree.Setting, ...]) -> str:
    return " ".join(f"{setting.name.name} = {_node_text(spec, setting.value)}" for setting in settings)


def _node_text(spec: LoadedSpec, node: tree.Expression) -> str:
    match node:
        case tree.Construction():
            inner = _settings_text(spec, node.settings)
            return f"{node.callee.name} {{ {inner} }}" if inner else f"{node.callee.name} {{}}"
        case tree.Reference():
            return node.name
        case tree.Items():
            return f"[{', '.join(_node_text(spec, item) for item in node.items)}]"
        case _:
            return _value_text(spec.evaluate(node))


def _value_text(value: Any) -> str:
    if value is None:
        return "none"
    return json.dumps(value, ensure_ascii=False, sort_keys=True)
