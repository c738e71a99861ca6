"""What PEFT selects and the ranks and scales that it reads are the planned ones: random trees of misleading names.

A tree is drawn from a seed that hypothesis chooses, which is an order of magnitude faster than drawing every name.
"""

import random
import warnings

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from peft import PeftModel, get_peft_model
from peft.tuners.tuners_utils import BaseTunerLayer, check_target_module_exists
from peft.utils.other import get_pattern_key
from torch import nn

from surgery.inject.lowering import lower_adapter, unproven
from surgery.inject.patterns import MODEL_PREFIX
from surgery.methods import METHODS
from surgery.planning.plan import Site

# Prefixes of each other, numbers that are none, metacharacters, line breaks, look-alikes, and what PEFT itself uses.
NAMES = [
    *("a", "ab", "abc", "b", "A", "q", "to_q", "to_q2", "q_proj", "layers", "x", "x-y"),
    *(str(number) for number in range(13)),
    *(
        "00",
        "01",
        "007",
        "1e3",
        "-1",
        "+1",
        "1_0",
        "\u0661",
        "\u0967",
        "\u00b2",
        "\uff11",
        "99",
        "100",
        "101",
        "999999999999",
    ),
    *("(", ")", "[0]", "[0-9]", "a|b", "^a", "a$", "\\d", "\\Z", "*", "+", "?", "{1}", "(?i)a", "#", "\\", ".*"[1:]),
    *("a\n", "\n", "a\nb", " ", "a ", "\t", "\u00e4", "a\u0308", "\u200b", "\u2028", "\x00"),
    *("base_layer", "lora_A", "default", "base_model", "model", "weight", "modules_to_save", "all-linear"),
]
METHOD = METHODS["lora"]
DEFAULTS = {setting.name: setting.default for setting in METHOD.settings}


def tree_of(draw: random.Random) -> list[str]:
    """The paths of a tree of modules, each after the module that holds it."""
    names = draw.sample(NAMES, draw.randint(1, 6))
    if draw.random() < 0.5:
        first = draw.randint(0, 120)
        names += map(str, range(first, first + draw.randint(1, 12)))
    paths: dict[str, None] = {}
    for _ in range(draw.randint(1, 12)):
        parent = draw.choice([*paths, "", ""])
        for name in draw.sample(names, min(len(names), draw.randint(1, 4))):
            paths[f"{parent}.{name}" if parent else name] = None
    return list(paths)


def sites_of(draw: random.Random, paths: list[str]) -> tuple[Site, ...]:
    planned = draw.sample(paths, draw.randint(1, len(paths)))
    ranks, alphas = draw.sample([1, 2, 4, 8], draw.randint(1, 3)), draw.sample([1, 2, 3.5], draw.randint(1, 2))
    return tuple(
        Site(
            path=path,
            kind="Linear",
            shape=[2, 2],
            target="a",
            place="test.surg:1",
            method="lora",
            settings=DEFAULTS | {"r": draw.choice(ranks), "alpha": draw.choice(alphas)},
            scale=1.0,
            added=0,
            adapter="a",
        )
        for path in planned
    )


@pytest.mark.heavy
@settings(max_examples=10_000, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.integers(0, 2**64), st.booleans())
def test_peft_selects_and_reads_what_is_planned(seed, mixed):
    draw = random.Random(seed)
    paths = tree_of(draw)
    sites = sites_of(draw, paths)
    lowered = lower_adapter(nn.Module(), "a", sites, mixed, [])
    config = lowered.config
    planned = {site.path for site in sites}
    taken = {path for path in paths if check_target_module_exists(config, path)}
    if mixed and any(path.startswith(MODEL_PREFIX) for path in paths):
        # With paths that look wrapped already, one pattern may mean two modules: then the plan is refused.
        found = [diagnostic.code for diagnostic in unproven(nn.Module(), paths, [lowered])]
        if found:
            assert set(found) == {"E0406"}
            return
    assert taken == planned
    for site in sites:
        r = config.rank_pattern.get(get_pattern_key(config.rank_pattern, site.path), config.r)
        alpha = config.alpha_pattern.get(get_pattern_key(config.alpha_pattern, site.path), config.lora_alpha)
        assert (r, alpha) == (site.settings["r"], site.settings["alpha"])
    if mixed:  # as `PeftMixedModel.load_adapter` matches
        wrapped = {path for path in paths if check_target_module_exists(config, MODEL_PREFIX + path)}
        assert wrapped == planned


def model_of(paths: list[str]) -> tuple[nn.Module, list[str]]:
    """A model with these modules, linears where nothing is inside, and the paths of the linears."""
    inner = {path.rpartition(".")[0] for path in paths}
    model = nn.Module()
    for path in paths:
        parent, _, name = path.rpartition(".")
        model.get_submodule(parent).add_module(name, nn.Module() if path in inner else nn.Linear(2, 2))
    return model, [path for path in paths if path not in inner]


@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.integers(0, 2**64))
def test_a_real_injection_adapts_what_is_planned(seed):
    draw = random.Random(seed)
    model, linears = model_of(tree_of(draw))
    sites = sites_of(draw, linears)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        adapted: PeftModel = get_peft_model(model, lower_adapter(model, "a", sites, False, []).config, "a")
    assert set(adapted.targeted_module_names) == {site.path for site in sites}
    carrying = {path for path, module in model.named_modules() if isinstance(module, BaseTunerLayer)}
    assert carrying == {site.path for site in sites}
    for site in sites:
        layer = model.get_submodule(site.path)
        assert (layer.r["a"], layer.lora_alpha["a"]) == (site.settings["r"], site.settings["alpha"])
