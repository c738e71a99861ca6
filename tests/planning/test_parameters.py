"""`param(...)`: which parameters are in a set, what a target on one is, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import chain

import pytest
from mixture_graph import EXPERTS, HIDDEN, WIDTH, Storages, layer, mixture, module, modules
from mixture_graph import graph_of as graph_from

from surgery.diagnostics import Diagnostic, Diagnostics, SurgeryError
from surgery.graph import Graph
from surgery.language import LoadedSpec
from surgery.planning.changes import compare
from surgery.planning.explain import explain
from surgery.planning.lock import lock_of, lock_text, read_lock, write_lock
from surgery.planning.plan import Plan
from surgery.planning.planner import Planned, make_plan
from surgery.planning.select import Selector
from surgery.planning.view import render_plan

STACKS = [f"layers.{i}.mlp.experts.{name}" for i in range(3) for name in ("gate_up_proj", "down_proj")]
IN, OUT = STACKS[::2], STACKS[1::2]
GATES = [f"layers.{i}.mlp.gate.weight" for i in range(3)]
QUERIES = [f"layers.{i}.attn.q.{name}" for i in range(3) for name in ("weight", "bias")]
AROUND = ["", "layers", "layers.0", "layers.0.mlp", "layers.0.mlp.experts"]
TABLES = [f"layers.{i}.table" for i in range(3)]
PlanOf = Callable[..., Planned]


@pytest.fixture
def planned(spec_of: Callable[..., LoadedSpec]) -> PlanOf:
    """`planned(statements)`: the plan of a spec on the mixture, or on the graph given."""

    def make(statements: str, graph: Graph | None = None) -> Planned:
        return make_plan(spec_of(statements), graph or mixture())

    return make


def target(select: str, more: str = "", method: str = "lora { r = 2 }", name: str = "t") -> str:
    return f"target {name} {{ select {select}  {more}  {method} }}\n"


def the(planned: Planned, code: str) -> Diagnostic:
    """The one diagnostic of this code, and no other error."""
    assert [d.code for d in planned.diagnostics if d.is_error and d.code != code] == []
    [found] = [d for d in planned.diagnostics if d.code == code]
    return found


def errors(planned: Planned) -> list[str]:
    return [diagnostic.message for diagnostic in planned.diagnostics if diagnostic.is_error]


@pytest.mark.parametrize(
    ("text", "members"),
    [
        ('param("**.experts.*")', STACKS),
        ('param("layers.[1:].mlp.experts.{gate_up_proj,down_proj}")', STACKS[2:]),
        ('param("layers.*.*")', TABLES),
        ('param("*")', ["token"]),
        ('param("**.{table,down_proj}") & path("layers.*")', TABLES),
        ('param("**.experts.*") & path("layers.0.**")', STACKS[:2]),
        ('param("**.weight", "**.bias") & kind(Linear) & path("layers.**")', QUERIES),
        ('param("**.experts.*") & inside(path("layers.[0]"))', STACKS[:2]),
        ('param("**.experts.*", "**.table") & inside(path("layers.0", "layers.*.mlp.experts"))', [TABLES[0], *STACKS]),
        ('param("**.experts.*") & role(feedforward_in)', IN),
        ('param("**.experts.*") - role(feedforward_in)', OUT),
        ('param("**") & role(router)', GATES),
        ('param("**.experts.*") & init(zero)', [OUT[2]]),
        ('param("**.experts.*") & index(path("layers.**"), -1)', STACKS[4:]),
        ('index(param("**.experts.*"), 0)', STACKS[:2]),
        (f'param("layers.**") & where(parameters > {EXPERTS * WIDTH * HIDDEN})', IN),
        (
            'param("{embed,head}.*", "twice.keys", "**.gate.weight") & tied',
            ["embed.weight", "twice.keys", "head.weight"],
        ),
        ('param("*.keys") & (bypassed | unreached)', ["around.keys", "idle.keys"]),
        ('param("**.experts.*") & containing(path("layers.0.mlp.experts.act"))', STACKS[:2]),
        ('containing(param("layers.0.mlp.experts.down_proj"))', AROUND),
        ('inside(param("**.experts.*"))', []),
        ('path("head") - param("head.weight")', ["head"]),
        ('path("head") & param("head.weight")', ["head.weight"]),
        ('path("head") | param("head.weight")', ["head", "head.weight"]),
        (
            'param("**") & all - param("**.{weight,bias}") - kind(Bank) - inside(path("normed"))',
            ["token", *TABLES, *STACKS],
        ),
        ('param("**.experts.*") - (param("**.down_proj") | path("layers.0.**"))', IN[1:]),
    ],
)
def test_sets(spec_of: Callable[..., LoadedSpec], text: str, members: list[str]) -> None:
    spec, found = spec_of(f"let s = {text}\nnever s"), Diagnostics()
    selector = Selector(spec, mixture(), found)
    selected = selector(spec.tree.lets[0].value)
    assert sorted(selector.ordered(selected.members)) == sorted(members)
    assert not selected.doubtful
    assert not list(found)


def test_a_role_of_one_of_several_weights_is_in_doubt_where_the_graph_does_not_say_of_which(planned: PlanOf) -> None:
    text = target('param("**.down_proj") & role(feedforward_in)')
    found = the(planned(text, mixture(role_parameters={})), "E0205")
    assert "it is not known which parameters of layers.0.mlp.experts have it" in found.notes[0]
    assert found.helps[0].startswith('take it out, as in `- param("layers.0.mlp.experts.down_proj")`')
    vouched = text + 'assume role(feedforward_in) = param("**.experts.*")'
    assert not errors(planned(vouched, mixture(role_parameters={})))


def test_what_the_graph_does_not_know_of_a_parameter(planned: PlanOf) -> None:
    text = "never init(zero)\n" + target('param("loaded.keys")')
    assert the(planned(text), "E0304").message.startswith(
        "it is not known whether `never init(zero)` protects 1 parameter"
    )
    vouched = the(planned(text + 'assume init(zero) = path("loaded")'), "E0301")
    assert vouched.message == "target `t` adapts 1 protected parameter"


@pytest.mark.parametrize(
    ("glob", "code", "help"),
    [
        ("**.experts.gate_up", "E0201", "did you mean `gate_up_proj`"),
        ("layers.*.mlp.experts", "E0201", "is a module; its parameters are `down_proj` and `gate_up_proj`"),
        ("layers.0.mlp", "E0201", "is a module, and holds no parameter itself"),
        ("**.experts.{down_proj,up_proj}", "E0202", "did you mean `gate_up_proj`"),
        ("layers.[7].table", "E0201", "`layers` has 3 numbered children, 0 to 2"),
    ],
)
def test_a_glob_that_matches_nothing(planned: PlanOf, glob: str, code: str, help: str) -> None:
    [found] = the(planned(target(f'param("{glob}")')), code).helps
    assert help in found


def test_a_path_of_parameters_leads_to_them(planned: PlanOf) -> None:
    [found] = the(planned(target('path("**.experts.down_proj")')), "E0201").helps
    assert found == (
        "`layers.0.mlp.experts.down_proj` is a parameter of `layers.0.mlp.experts`: "
        "select that module, or write `param(...)`"
    )


def test_a_module_that_computes_with_weights_of_its_own_leads_to_them(planned: PlanOf) -> None:
    """A role selects the module of fused experts, which no method adapts as a whole."""
    [found] = the(planned(target("role(feedforward_in)")), "E0404").helps
    assert 'adapt its parameters as such, as in `param("layers.0.mlp.experts.gate_up_proj")`' in found


@pytest.mark.parametrize(
    ("method", "help"),
    [("loha { r = 2 }", "adapt them with `lora`"), ("lora { r = 2  dropout = 0.1 }", "leave that setting as it is")],
)
def test_what_to_do_for_a_parameter_that_is_refused(planned: PlanOf, method: str, help: str) -> None:
    [found] = the(planned(target('param("**.experts.*")', method=method)), "E0404").helps
    assert help in found


def test_sites(planned: PlanOf) -> None:
    plan = planned(target('param("**.experts.*")', "expect 6", "lora { r = 3  alpha = 6 }")).plan
    assert plan.applyable
    assert [site.full_path for site in plan.sites] == STACKS
    first, second = plan.sites[:2]
    assert (first.path, first.parameter, first.kind) == ("layers.0.mlp.experts", "gate_up_proj", "Experts")
    assert (first.shape, first.scale) == ([EXPERTS, 2 * HIDDEN, WIDTH], 2.0)
    assert first.added == EXPERTS * 3 * (2 * HIDDEN + WIDTH)
    assert second.added == EXPERTS * 3 * (WIDTH + HIDDEN)
    assert (list(first.roles), list(second.roles)) == (["feedforward_in"], ["feedforward_out"])
    assert [adapter.name for adapter in plan.adapters] == ["default"]
    assert plan.totals.added == 3 * (first.added + second.added)


def test_modules_and_parameters_together(planned: PlanOf) -> None:
    plan = planned(target('path("layers.*.attn.q") | param("layers.*.mlp.gate.weight")', "expect 6")).plan
    assert plan.applyable
    assert [site.full_path for site in plan.sites] == [p for i in range(3) for p in (f"layers.{i}.attn.q", GATES[i])]
    assert plan.sites[1].added == 2 * (EXPERTS + WIDTH)


@pytest.mark.parametrize(
    ("select", "method", "why"),
    [
        ('param("**.experts.*")', "loha { r = 2 }", "with LoRA, not with LoHa"),
        ('param("**.experts.*")', "lora { r = 2  dropout = 0.1 }", "has no `dropout`"),
        ('param("**.experts.*")', "lora { r = 2  dora = true }", "has no `dora`"),
        ('param("conv.weight")', "lora { r = 2 }", "would take a Conv1d's kernels for a stack of matrices"),
        ('param("token")', "lora { r = 2 }", "belongs to the model itself"),
        ('param("layers.*.attn.q.bias")', "lora { r = 2 }", "not a shape of [8]"),
        ('param("normed.parametrizations.weight.original1")', "lora { r = 2 }", "its module is parametrised"),
        ('param("normed.mask")', "lora { r = 2 }", "its module is parametrised"),
        ('param("packed.keys")', "lora { r = 2 }", "it is quantised (uint8)"),
    ],
)
def test_what_lora_cannot_adapt(planned: PlanOf, select: str, method: str, why: str) -> None:
    assert why in the(planned(target(select, method=method)), "E0404").message


def test_two_targets_on_a_module_and_its_parameter(planned: PlanOf) -> None:
    module_, parameter = (
        target('path("layers.*.attn.q")', name="m"),
        target('param("layers.0.attn.q.weight")', name="p"),
    )
    found = the(planned(module_ + parameter), "E0302")
    assert found.message == "targets `m` and `p` both claim 1 module and 1 parameter"
    wins = planned(module_ + parameter.replace("target p", "target p overrides m")).plan
    assert wins.applyable
    assert [s.full_path for s in wins.sites] == ["layers.0.attn.q.weight", "layers.1.attn.q", "layers.2.attn.q"]
    loses = planned(module_.replace("target m", "target m overrides p") + parameter).plan
    assert [s.full_path for s in loses.sites] == ["layers.0.attn.q", "layers.1.attn.q", "layers.2.attn.q"]


def test_one_target_on_a_module_and_its_parameter(planned: PlanOf) -> None:
    found = the(planned(target('path("layers.0.attn.q") | param("**.q.weight")')), "E0302")
    assert found.message == "target `t` claims 1 parameter with the module that holds it"


@pytest.mark.parametrize(
    ("never", "select", "message"),
    [
        ('path("layers.0.mlp.experts")', 'param("**.experts.*")', "adapts 2 protected parameters"),
        ('path("layers.0")', 'param("layers.*.table")', "adapts 1 protected parameter"),
        ('path("layers")', 'param("**.experts.*")', "adapts 6 protected parameters"),
        ('inside(path("layers.1"))', 'param("layers.*.table")', "adapts 1 protected parameter"),
        ("role(feedforward_in)", 'param("**.experts.*")', "adapts 3 protected parameters"),
        ("init(zero)", 'param("**.experts.*")', "adapts 1 protected parameter"),
        ('param("**.gate_up_proj")', 'param("**.experts.*")', "adapts 3 protected parameters"),
        ('param("**.q.bias")', 'path("layers.0.attn.q")', "adapts 1 module with protected parameters inside"),
    ],
)
def test_protections(planned: PlanOf, never: str, select: str, message: str) -> None:
    found = the(planned(f"never {never}\n" + target(select)), "E0301")
    assert found.message == f"target `t` {message}"


@pytest.mark.parametrize(
    ("never", "select"),
    [
        ("role(feedforward_in)", 'param("**.down_proj")'),
        ('param("**.gate_up_proj")', 'param("**.down_proj")'),
        ('path("layers.*.mlp.gate")', 'param("**.experts.*")'),
        ("init(zero)", 'param("**.gate_up_proj")'),
        ('role(feedforward_in) - param("**.gate_up_proj")', 'param("**.gate_up_proj")'),
    ],
)
def test_what_a_protection_leaves_free(planned: PlanOf, never: str, select: str) -> None:
    assert errors(planned(f"never {never}\n" + target(select))) == []


def test_a_protected_parameter_of_a_trained_module(planned: PlanOf) -> None:
    text = 'never param("layers.0.attn.q.bias")  because "it stays"\n' + 'train { select path("layers.0.attn") }'
    found = the(planned(text), "E0301")
    assert found.message == "`train` trains 1 module with protected parameters inside"
    assert found.helps == ('take it out with `except containing(param("layers.0.attn.q.bias"))`',)


def test_exclusions(planned: PlanOf) -> None:
    plan = planned(
        'exclude path("layers.0.**")\n' + target('param("**.experts.*")', 'except param("layers.1.**")')
    ).plan
    assert [site.full_path for site in plan.sites] == STACKS[4:]
    assert [(taken.path, taken.selector) for taken in plan.excluded] == [
        *((path, 'path("layers.0.**")') for path in STACKS[:2]),
        *((path, 'param("layers.1.**")') for path in STACKS[2:4]),
    ]


def test_an_exclusion_of_a_parameter_takes_nothing_from_its_module(planned: PlanOf) -> None:
    found = planned('exclude param("**.q.bias")\n' + target('path("layers.*.attn.q")'))
    assert found.plan.applyable
    assert len(found.plan.sites) == 3
    assert the(found, "W0905").message.endswith(
        "takes nothing from target `t`, though it has parameters of its modules"
    )


TWO_ADAPTERS = target('param("**.gate_up_proj")', name="a") + target(
    'param("**.down_proj")', method="lora { r = 2  rslora = true }", name="b"
)


@pytest.mark.parametrize(
    ("text", "code", "message"),
    [
        (target('param("head.weight")'), "E0307", "adapts 1 parameter with shared storage"),
        (target('param("twice.keys")'), "E0307", "adapts 1 parameter with shared storage"),
        (target('param("both.values")'), "E0307", "adapts 1 parameter with shared storage"),
        (target('param("around.keys")'), "E0305", "1 parameter read without calling the module that holds it"),
        (target('param("idle.keys")'), "E0306", "adapts 1 parameter that never runs"),
        (
            target('param("**.experts.*")') + 'train { select path("layers.0.mlp") }',
            "E0308",
            "2 parameters that `train` trains in full",
        ),
        (
            target('param("layers.0.table")') + 'train { select path("layers.0.mlp.gate") }',
            "E0308",
            "1 parameter that `train` trains in full",
        ),
        ('train { select param("**.table") }', "E0406", "`train` trains 3 parameters, and PEFT"),
        (
            'train { select path("layers.0.attn") except param("layers.0.attn.q.bias") }',
            "E0406",
            "`train` leaves out 1 parameter, and PEFT",
        ),
        (
            target('param("layers.*.table") | path("layers.0.attn.q")'),
            "E0406",
            "1 site inside a module of which it adapts",
        ),
        (
            target('param("layers.*.table") | param("layers.1.mlp.experts.*")'),
            "E0406",
            "2 sites inside a module of which it adapts",
        ),
        (TWO_ADAPTERS, "E0407", "targets `a` and `b` need two"),
        (
            target('path("layers.0.attn.q")') + 'checkpoint param("**.table") { every = 1 }',
            "E0306",
            "`checkpoint` names 3 parameters",
        ),
        (target('param("**.experts.*")', "expect 4"), "E0203", "target `t` has 6 parameters, not the 4 expected"),
    ],
)
def test_refused(planned: PlanOf, text: str, code: str, message: str) -> None:
    assert message in the(planned(text), code).message


def test_a_train_around_takes_the_parameters_of_its_modules(planned: PlanOf) -> None:
    assert planned('train { select path("layers.0.mlp.gate") }').plan.totals.trained == EXPERTS * WIDTH


def nested() -> Graph:
    """The mixture beside another one that holds the same layers below `text`."""
    own = Storages()
    own.last = 100
    below = [replace(one, path=f"text.{one.path}", block=None) for one in layer(own, 0)]
    around = [module("text", "Model"), module("text.layers", "ModuleList")]
    return graph_from(chain(modules(), around, below))


def test_parameters_that_peft_would_take_by_their_ending(planned: PlanOf) -> None:
    found = the(planned(target('param("layers.0.mlp.experts.down_proj")'), nested()), "E0406")
    assert found.message == (
        "PEFT would also adapt 1 parameter that the plan does not: text.layers.0.mlp.experts.down_proj"
    )
    assert not errors(planned(target('param("text.**.down_proj")'), nested()))
    assert not errors(planned(target('param("**.layers.0.**.down_proj")'), nested()))


def test_a_module_called_like_peft_s_wrappers(planned: PlanOf) -> None:
    own = Storages()
    own.last = 100
    bank = [
        module("bank", "Bank", own.parameter("own", 4, 4)),
        module("bank.base_layer", "Bank", own.parameter("keys", 4, 4)),
    ]
    graph = graph_from(chain(modules(), bank))
    for path in ("bank.base_layer.keys", "bank.own"):
        found = the(planned(target(f'param("{path}")'), graph), "E0406")
        assert found.message == "PEFT would not find 1 planned parameter"


PLAN = 'let e = param("**.experts.*")\n' + target("e & role(feedforward_out)", "expect 3")


def test_the_view_shows_parameters(planned: PlanOf) -> None:
    text = render_plan(planned(PLAN).plan, None)
    assert "  + layers.[0:3].mlp.experts.down_proj  3 sites  parameter 4x8x16 of Experts  lora r=2 alpha=8" in text


def test_explain_a_parameter(planned: PlanOf) -> None:
    plan = planned('never path("layers.*.mlp.gate")  because "settled"\n' + PLAN).plan
    found = explain(plan, mixture(), OUT[0]).splitlines()
    assert found[0] == f"{OUT[0]}  parameter of layers.0.mlp.experts (Experts)"
    assert found[1].startswith("  targeted by t (toy.surg:4): lora r=2")
    assert "  role feedforward_out: silu -> linear" in found
    assert not any("feedforward_in" in line for line in found)
    assert "  untouched: no target or train selects it, and no never covers it" in explain(plan, mixture(), IN[0])
    assert explain(plan, mixture(), GATES[0]).splitlines()[1:3] == [
        "  its module layers.0.mlp.gate is",
        '    protected by never path("layers.*.mlp.gate") (toy.surg:2), because settled',
    ]
    assert "  contains 1 parameter that is targeted" in explain(plan, mixture(), "layers.0.mlp.experts").splitlines()
    with pytest.raises(SurgeryError) as caught:
        explain(plan, mixture(), "layers.0.mlp.experts.downproj")
    [found_] = caught.value.diagnostics
    assert (found_.code, found_.helps) == ("E0204", ("did you mean `layers.0.mlp.experts.down_proj`?",))


def test_the_lock_holds_parameters(planned: PlanOf, spec_of: Callable[..., LoadedSpec]) -> None:
    plan, spec = planned(PLAN).plan, spec_of(PLAN)
    assert '"path": "layers.0.mlp.experts", "parameter": "down_proj", "kind": "Experts"' in lock_text(lock_of(plan))
    write_lock(plan, spec.lock_path)
    lock = read_lock(spec.lock_path, plan)
    assert lock is not None
    assert compare(plan, lock).is_empty
    other = planned(PLAN.replace("feedforward_out", "feedforward_in")).plan
    changes = compare(other, lock)
    assert [site.full_path for site in changes.added] == IN
    assert [site.full_path for site in changes.removed] == OUT
    assert "  + layers.[0:3].mlp.experts.gate_up_proj  3 sites" in render_plan(other, changes)


def test_a_lock_of_modules_has_no_word_of_parameters(planned: PlanOf) -> None:
    assert "parameter" not in lock_text(lock_of(planned(target('path("layers.0.attn.q")')).plan))


def test_a_plan_of_before_parameters_reads_as_one_of_modules(planned: PlanOf) -> None:
    plan = planned(target('path("layers.0.attn.q")')).plan
    data = plan.model_dump(mode="json")
    for site in data["sites"]:
        del site["parameter"]
    assert Plan.model_validate(data) == plan
