"""Every class of the smoke set is captured, or a diagnostic says why not; and no graph contradicts itself."""

from __future__ import annotations

import importlib
import pkgutil
from pathlib import Path
from typing import Any

import pytest
from smoke import diffusers_models, transformers_models
from smoke.case import Case
from smoke.invariants import broken, survives_a_file

from surgery.diagnostics import SurgeryError
from surgery.graph import Fact, Graph, Header, Module

CASES = [
    *(Case("diffusers", name) for name in diffusers_models.class_names()),
    *(Case("transformers", name) for name in transformers_models.class_names()),
]
SHARE = 0.95  # of the cases that have to be captured

# Why a class cannot be captured: words of its diagnostic.
EXPECTED_DIAGNOSTICS = {
    "diffusers/AnyFlowFARTransformer3DModel": "FlexAttention does not support backward on CPU",
    "diffusers/Kandinsky6SRTransformer3DModel": "FlexAttention does not support backward on CPU",
    "transformers/EdgeTamModel": "requires the timm library",
    "transformers/GlmImageVQVAE": 'missing the required "forward" function',
}


@pytest.mark.heavy
@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_class_is_captured_or_a_diagnostic_says_why_not(case: Case, tmp_path: Path) -> None:
    if str(case) in EXPECTED_DIAGNOSTICS:
        with pytest.raises(SurgeryError) as stopped:
            case.capture()
        assert EXPECTED_DIAGNOSTICS[str(case)] in str(stopped.value)
        return
    graph = case.capture()
    assert any(module.roles for module in graph.modules.values())
    assert broken(graph) == []
    assert survives_a_file(graph, tmp_path)


def test_the_smoke_set_is_large_and_nearly_all_of_it_is_captured() -> None:
    """The test above captures every case that EXPECTED_DIAGNOSTICS does not list."""
    assert EXPECTED_DIAGNOSTICS.keys() <= {str(case) for case in CASES}
    assert sum(case.package == "transformers" for case in CASES) >= 120
    assert 1 - len(EXPECTED_DIAGNOSTICS) / len(CASES) >= SHARE


@pytest.mark.heavy
def test_every_model_below_the_transformers_of_diffusers_that_it_exports_is_in_the_set() -> None:
    """The set comes from diffusers' lists of names; here from the classes themselves."""
    import diffusers
    from diffusers.models import transformers as below

    modules = [
        importlib.import_module(f"{below.__name__}.{found.name}") for found in pkgutil.iter_modules(below.__path__)
    ]
    models = {
        name
        for module in modules
        for name, kind in vars(module).items()
        if isinstance(kind, type) and issubclass(kind, diffusers.ModelMixin) and kind.__module__ == module.__name__
    }
    assert {name for name in models if hasattr(diffusers, name)} == set(diffusers_models.class_names())


def _graph(**facts: Any) -> Graph:
    return Graph(Header(), {"": Module("", "M", ("M",)), "part": Module("part", "M", ("M",), **facts)}, ())


@pytest.mark.parametrize(
    ("facts", "line"),
    [
        ({"unreached": Fact("maybe")}, "unreached is 'maybe'"),
        ({"unreached": Fact("unknown")}, "unreached is unknown without evidence"),
        ({"gradient": Fact("no")}, "gradient is no without evidence"),
        ({"unreached": Fact("yes", "not called"), "calls": 2}, "unreached, though called 2 times"),
        ({"unreached": Fact("yes", "not called"), "roles": {"norm": "layer_norm"}}, "norm, though unreached"),
        ({"roles": {"norm": ""}}, "norm without evidence"),
        ({"roles": {"nose": "a line"}}, "there is no role nose"),
        ({"bypassed": Fact("yes", "a line")}, "bypassed, though no op reads a parameter of it"),
    ],
)
def test_a_graph_that_contradicts_itself_is_found(facts: dict[str, Any], line: str) -> None:
    assert broken(_graph()) == []
    assert broken(_graph(**facts)) == [f"part: {line}"]
