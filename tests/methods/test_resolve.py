import pytest

from surgery.diagnostics import Source, Span
from surgery.graph import Init, Module, Parameter
from surgery.methods import METHODS, geometry, resolve

LORA, LOHA = METHODS["lora"], METHODS["loha"]
SOURCE = Source("f.surg", "lora { r = 4 }")
SPAN = Span(SOURCE, 0, 4)


def resolved(method, **given):
    return resolve(method, {name: (value, SPAN) for name, value in given.items()}, SPAN)


def codes(method, **given):
    return [problem.code for problem in resolved(method, **given)[1]]


def linear(out=64, inputs=64, dtype="float32", bases=("Linear",), kind="Linear"):
    return Module("l", kind, bases, (Parameter("weight", (out, inputs), dtype, Init("random"), 0),))


def test_defaults_are_filled_in():
    settings, problems = resolved(LORA, r=16)
    assert not problems
    usual = {"r": 16, "alpha": 8, "dropout": 0.0, "rslora": False, "dora": False, "init": True}
    assert settings == usual | {"lora_bias": False, "bdlora": None, "nblocks": 1}


def test_pefts_own_names_are_accepted():
    settings, problems = resolved(LORA, lora_alpha=32, lora_dropout=0.1, use_rslora=True, init_lora_weights="gaussian")
    assert not problems
    assert (settings["alpha"], settings["dropout"], settings["rslora"]) == (32, 0.1, True)
    assert settings["init"] == "gaussian"


def test_equal_values_have_one_form():
    settings, _ = resolved(LORA, r=4.0, alpha=8.0, dropout=0)
    assert [repr(settings[name]) for name in ("r", "alpha", "dropout")] == ["4", "8", "0.0"]


def test_settings_that_do_not_go_together_say_what_to_do():
    _, [problem] = resolved(METHODS["gralora"], r=6, gralora_k=4)
    assert problem.code == "E0403"
    assert problem.helps == ("change one of them; `surgery methods gralora` says what each does",)


def test_a_method_without_settings_says_so():
    _, [problem] = resolved(METHODS["ln_tuning"], r=4)
    assert problem.helps == ("ln_tuning takes no settings",)


def test_a_misspelt_choice_names_the_nearest():
    _, [problem] = resolved(LORA, init="gaussain")
    assert problem.helps == ('did you mean `init = "gaussian"`?',)
    _, [problem] = resolved(METHODS["glora"], config_A_B="LoRA")
    assert problem.helps == ('did you mean `config_A_B = "lora"`?',)


def test_an_unknown_setting_names_the_nearest():
    _, [problem] = resolved(LORA, droput=0.1)
    assert problem.code == "E0402"
    assert problem.helps[0].startswith("did you mean `dropout`?")


@pytest.mark.parametrize(
    "given",
    [
        {"r": 0},
        {"r": -1},
        {"r": 2.5},
        {"r": True},
        {"r": "8"},
        {"r": None},
        {"alpha": 0},
        {"alpha": float("inf")},
        {"alpha": float("nan")},
        {"dropout": 1},
        {"dropout": -0.1},
        {"rslora": 1},
        {"init": 1},
        {"init": "gausian"},
    ],
    ids=str,
)
def test_values_out_of_bounds_are_refused(given):
    settings, [problem] = resolved(LORA, **given)
    assert problem.code == "E0403"
    [name] = given
    assert settings[name] == LORA.setting(name).default
    assert problem.helps


@pytest.mark.parametrize("value", [0, 0.5, 1, 1.0])
def test_a_share_may_be_none_of_it_and_all_of_it(value):
    settings, problems = resolved(METHODS["tinylora"], weight_tying=value)
    assert not problems
    assert repr(settings["weight_tying"]) == repr(float(value))


@pytest.mark.parametrize("value", [1.5, -0.1, "all", True, [1]], ids=str)
def test_a_share_beyond_its_bounds_is_refused(value):
    assert codes(METHODS["tinylora"], weight_tying=value) == ["E0403"]


def test_a_list_of_counts_has_one_form():
    settings, problems = resolved(METHODS["trainable_tokens"], token_indices=[7.0, 0])
    assert not problems
    assert repr(settings["token_indices"]) == "[7, 0]"


@pytest.mark.parametrize("value", [7, "7", [-1], [1.5], [True], [None], [[1]]], ids=str)
def test_what_is_no_list_of_counts_is_refused(value):
    assert codes(METHODS["trainable_tokens"], token_indices=value) == ["E0403"]


@pytest.mark.parametrize("init", ["pissa_niter_16", "eva", "corda", "lora_ga", "loftq"])
def test_inits_that_a_plan_cannot_hold_are_refused_as_such(init):
    assert codes(LORA, init=init) == ["E0405"]


def test_fields_that_statements_of_the_language_decide_are_refused_as_such():
    _, [problem] = resolved(LOHA, target_modules="to_q")
    assert problem.code == "E0405"
    assert "`select`" in problem.message


def test_a_setting_under_both_its_names_is_set_twice():
    assert codes(LORA, alpha=8, lora_alpha=16) == ["E0104"]


def test_all_problems_come_at_once():
    assert codes(LORA, r=0, dropuot=0.1, init="eva") == ["E0403", "E0402", "E0405"]


@pytest.mark.parametrize(
    ("module", "reason"),
    [
        (Module("m", "LayerNorm", ("LayerNorm",)), "none of the layers"),
        (Module("m", "ConvTranspose1d", ("ConvTranspose1d", "_ConvTransposeNd", "_ConvNd")), "none of the layers"),
        (linear(dtype="uint8", bases=("Linear4bit", "Linear"), kind="Linear4bit"), "quantised (uint8)"),
        (linear(dtype="float8_e4m3fn"), "quantised"),
        (Module("m", "Linear", ("Linear",)), "not a plain parameter"),
    ],
    ids=lambda value: value if isinstance(value, str) else value.kind,
)
def test_what_no_method_can_adapt(module, reason):
    settings, _ = resolved(LORA)
    assert reason in LORA.refusal(module, settings)
    assert reason in geometry(module)


def test_advice_on_loha_rank_and_on_alpha():
    module = linear(64, 64)
    assert [code for code, _ in LOHA.advice(module, resolved(LOHA, r=8)[0])] == []
    assert [code for code, _ in LOHA.advice(module, resolved(LOHA, r=9)[0])] == ["W0902"]
    assert [code for code, _ in LORA.advice(module, resolved(LORA, r=4, alpha=17)[0])] == ["W0903"]
    assert [code for code, _ in LORA.advice(module, resolved(LORA, r=32, alpha=8)[0])] == []
    assert [code for code, _ in LORA.advice(module, resolved(LORA, r=33, alpha=8)[0])] == ["W0903"]
    assert [code for code, _ in LORA.advice(module, resolved(LORA, r=4, alpha=17, rslora=True)[0])] == []


def test_what_varies_within_an_adapter_has_a_pattern_in_the_configuration():
    for method in METHODS.values():
        for setting in method.settings:
            assert not setting.pattern or setting.pattern in method.unsupported
            assert setting.per_site == (setting.name not in method.per_adapter(resolved(method)[0]))
