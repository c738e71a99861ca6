"""Selectors on the toy model, and their algebra against a reference that asks module by module."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from surgery.diagnostics import Diagnostic, Diagnostics
from surgery.graph import Graph, Module
from surgery.language import LoadedSpec
from surgery.planning.select import Selector
from surgery.planning.selection import Selection

SpecOf = Callable[..., LoadedSpec]


@pytest.fixture
def select(toy: Graph, spec_of: SpecOf) -> Callable[..., tuple[Selection, list[Diagnostic]]]:
    def run(text: str, before: str = "", strict: bool = False) -> tuple[Selection, list[Diagnostic]]:
        found = Diagnostics()
        spec = spec_of(f"{before}\nlet chosen = {text}\n")
        selector = Selector(spec, toy, found)
        return selector(spec.tree.lets[-1].value, strict=strict), list(found)

    return run


Select = Callable[..., tuple[Selection, list[Diagnostic]]]
BLOCKS = range(4)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('path("blocks.[1:3].attn")', {"blocks.1.attn", "blocks.2.attn"}),
        ('path("head", "blocks.*.norm") & kind(Linear)', {"head"}),
        ("kind(MultiheadAttention, Embedding)", {"mha", "embed"}),
        ("kind(Linear) & bypassed", {"mha.out_proj"}),
        ("role(conditioning, output_head)", {"time", "proj_out"}),
        ("init(zero)", {*(f"blocks.{i}.mod" for i in BLOCKS), "proj_out"}),
        ("init(constant)", {f"blocks.{i}.norm" for i in BLOCKS}),
        ('inside(path("mha"))', {"mha.out_proj"}),
        ("containing(bypassed)", {"", "mha"}),
        ("index(role(attention_query), 0, -1)", {"blocks.0.attn.to_q", "blocks.3.attn.to_q"}),
        ("index(role(attention_query), ::2)", {"blocks.0.attn.to_q", "blocks.2.attn.to_q"}),
        ("where(parameters >= 80)", {"embed", "head"}),
        ('where(out_features == 8) & path("blocks.0.ff.*")', {"blocks.0.ff.0", "blocks.0.ff.2"}),
        ('where(not out_features > 8) & path("blocks.0.ff.*")', {"blocks.0.ff.0", "blocks.0.ff.2"}),
        (
            'where(groups == 2 or out_features == 8) & path("*")',
            {"time", "unused", "loaded", "cut_off", "doubtful", "proj_out"},
        ),
        ("tied", {"embed", "head"}),
        ("unreached", {"unused"}),
        ('all - inside(path("blocks", "mha", "experts")) - kind(Linear)', {"", "embed", "blocks", "mha", "experts"}),
    ],
)
def test_a_set_is_what_it_says(select: Select, text: str, expected: set[str]) -> None:
    found, diagnostics = select(text)
    assert found.yes == expected
    assert diagnostics == []


def test_where_knows_params(select: Select) -> None:
    found, _ = select("where(parameters > most)", before="param most: int = 79")
    assert found.yes == {"embed", "head"}


def test_a_number_that_a_module_lacks_is_not_a_param_of_its_name(select: Select) -> None:
    found, _ = select("where(out_features == 8)", before="param out_features: int = 8")
    assert found.yes == select("where(out_features == 8) & kind(Linear)")[0].yes


@pytest.mark.parametrize(
    ("text", "doubtful"),
    [
        ("init(zero)", {"loaded"}),
        ("role(modulation)", {"doubtful"}),
        ('kind(Linear) - init(zero) - path("blocks.**")', {"loaded"}),
        ("unreached | bypassed", {"experts.1"}),
        ('path("loaded") & init(random)', {"loaded"}),
        ("containing(init(zero)) - containing(init(zero))", set()),
    ],
)
def test_unknown_facts_leave_doubt(select: Select, text: str, doubtful: set[str]) -> None:
    found, _ = select(text)
    assert set(found.maybe) == doubtful
    assert not found.yes & doubtful


def test_doubt_reaches_what_depends_on_it(select: Select) -> None:
    found, _ = select("containing(unreached) - containing(bypassed)")
    assert found.maybe == {"experts": "unreached: its siblings ran; toy.py:50 decides"}


def test_an_assumption_settles_a_fact(select: Select) -> None:
    found, diagnostics = select("init(zero)", before='assume init(zero) = path("loaded")')
    assert "loaded" in found.yes
    assert not found.maybe
    assert diagnostics == []
    assert not select("role(modulation)", before='assume role(modulation) = path("head") - all')[0].maybe


def test_an_assumption_against_the_graph_is_an_error(select: Select) -> None:
    found, (diagnostic,) = select("init(zero)", before='assume init(zero) = path("{time,loaded}")')
    assert diagnostic.code == "E0309"
    assert "time" not in found.yes


@pytest.mark.parametrize(
    ("text", "help"),
    [
        ("kind(Linaer)", "did you mean `Linear`?"),
        ("kind(Linear, Transformer)", "there are "),
        ('path("blocks.*.atn")', "did you mean `attn`, as in blocks.0.attn?"),
    ],
)
def test_names_that_match_nothing_are_errors_everywhere(select: Select, text: str, help: str) -> None:
    for strict in (False, True):
        _, (diagnostic,) = select(text, strict=strict)
        assert diagnostic.code == "E0201"
        assert diagnostic.helps[0].startswith(help)


def test_facts_that_nothing_has_are_errors_where_something_is_chosen(select: Select) -> None:
    assert select("role(router)")[1] == []
    _, (diagnostic,) = select("role(attention_query, router)", strict=True)
    assert diagnostic.code == "E0201"
    assert diagnostic.span is not None
    assert diagnostic.span.text == "router"
    assert select("kind(Linear) - role(router)", strict=True)[1] == []


def test_an_index_beyond_the_blocks_is_an_error(select: Select) -> None:
    _, (diagnostic,) = select("index(role(attention_query), 0:2, 9)")
    assert (diagnostic.code, diagnostic.helps) == ("E0202", ("of the families of blocks, blocks.* has 4 (0 to 3)",))


def reference(module: Module, text: str) -> bool:
    """Whether one module is in an atomic set, by the set's definition."""
    return {
        "kind(Linear)": "Linear" in module.bases,
        "role(modulation)": "modulation" in module.roles,
        "tied": bool(module.tied),
        'path("blocks.**")': module.path.split(".")[0] == "blocks",
        'inside(path("blocks.[0:2]"))': module.path.startswith(("blocks.0.", "blocks.1.")),
        "where(in_features == 8)": module.numbers.get("in_features") == 8,
        "all": True,
    }[text]


ATOMS = ["kind(Linear)", "role(modulation)", "tied", 'path("blocks.**")', 'inside(path("blocks.[0:2]"))', "all"]
ATOMS.append("where(in_features == 8)")
trees = st.recursive(
    st.sampled_from(ATOMS), lambda inner: st.tuples(inner, st.sampled_from("|&-"), inner), max_leaves=8
)


def as_text(node: object) -> str:
    if isinstance(node, tuple):
        left, operator, right = node
        return f"({as_text(left)} {operator} {as_text(right)})"
    return str(node)


def member(module: Module, node: object) -> bool:
    if not isinstance(node, tuple):
        return reference(module, str(node))
    left, right = member(module, node[0]), member(module, node[2])
    return {"|": left or right, "&": left and right, "-": left and not right}[node[1]]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=60)
@given(trees)
def test_algebra_is_membership(toy: Graph, select: Select, node: object) -> None:
    found, _ = select(as_text(node))
    sure = {path for path, module in toy.modules.items() if path != "doubtful" and member(module, node)}
    assert found.yes - {"doubtful"} == sure
    assert set(found.maybe) <= {"doubtful"}
