"""A model with copied layers is the model that plain `get_peft_model` makes with the same configuration."""

import copy
import warnings

import pytest
import torch
from adaptable_layers import LAYERS, described
from model_structure import first_difference, numbers, structure
from peft import PeftModel, get_peft_model
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM

from surgery.inject import apply, base_model
from surgery.inject.lowering import lower
from surgery.inject.prototypes import COPIED, prototypes
from surgery.inject.tree import named_modules
from surgery.methods import METHODS

# The settings that change which objects a layer is made of, or how they start.
SETTINGS = {
    "lora": [
        {},
        {"r": 3, "alpha": 5, "dropout": 0.2},
        {"rslora": True},
        {"init": "gaussian"},
        {"init": False},
        {"dora": True},
    ],
    "hra": [{}, {"apply_GS": True}, {"init": False}],
    "ia3": [{}, {"feedforward": True}],
    "hira": [{}, {"r": 4, "dropout": 0.1}],
    "c3a": [{"block_size": 4}, {"block_size": 4, "init": "gaussian"}, {"block_size": 4, "init": True}],
    "loha": [{}, {"r": 2, "rank_dropout": 0.1, "module_dropout": 0.2}, {"effective_conv2d": True}, {"init": False}],
}
NOT_COPIED = [
    ("lora", {"init": False}),
    ("lora", {"dora": True}),
    ("loha", {"init": False}),
    ("hra", {"init": False}),
    ("c3a", {"block_size": 4, "init": True}),
]
STILL = [("ia3", given) for given in SETTINGS["ia3"]] + [("c3a", {"block_size": 4, "init": True})]  # nothing is drawn
CASES = [(name, settings) for name in COPIED for settings in SETTINGS[name]]
SHOWN = [f"{name}-{'-'.join(map(str, settings)) or 'defaults'}" for name, settings in CASES]


def triples(method, settings):
    """A model with three modules of each kind that the method takes, and their paths."""
    usable = []
    for kind, (build, _) in LAYERS.items():
        if METHODS[method].refusal(described(build()), _full(method, settings)) is None:
            usable.append(kind)
    model = nn.ModuleDict({kind: nn.ModuleList(LAYERS[kind][0]() for _ in range(3)) for kind in usable})
    return model, [f"{kind}.{i}" for kind in usable for i in range(3)]


def _full(method, settings):
    return {setting.name: setting.default for setting in METHODS[method].settings} | settings


def by_peft(model, config, name):
    """What PEFT makes of a model with this configuration."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return get_peft_model(model, copy.deepcopy(config), adapter_name=name)


def assert_same(adapted, plain):
    assert adapted.targeted_module_names == plain.targeted_module_names
    left, right = dict(adapted.named_modules()), dict(plain.named_modules())
    assert list(left) == list(right)
    for path in left:  # module by module first, so that a difference has a place
        own = [{k: v for k, v in vars(m).items() if k != "_modules"} for m in (left[path], right[path])]
        assert first_difference(*map(structure, own), path) is None
    assert first_difference(structure(adapted), structure(plain)) is None
    shapes = [{name: t.shape for name, t in model.state_dict().items()} for model in (adapted, plain)]
    assert list(shapes[0].items()) == list(shapes[1].items())


@pytest.mark.parametrize("place", ["float32", "bfloat16", "meta"])
@pytest.mark.parametrize(("method", "settings"), CASES, ids=SHOWN)
def test_every_kind_of_layer_is_as_plain_peft_makes_it(method, settings, place, plan_for):
    model, paths = triples(method, settings)
    model = model.to(torch.bfloat16) if place == "bfloat16" else model.to(place) if place == "meta" else model
    other = copy.deepcopy(model)
    plan = plan_for(model, {"a": (method, settings, paths)})
    config = lower(model, plan)[0].config
    adapted, plain = apply(model, plan), by_peft(other, config, "a")
    assert_same(adapted, plain)


@pytest.mark.parametrize("trained", [True, False])
def test_ranks_alphas_and_training_flags_of_single_sites_are_kept(trained, plan_for):
    model = LlamaForCausalLM(
        LlamaConfig(vocab_size=64, hidden_size=32, intermediate_size=48, num_hidden_layers=6, num_attention_heads=4)
    ).train(trained)
    paths = [path for path, module in model.named_modules() if isinstance(module, nn.Linear) and path != "lm_head"]
    plan = plan_for(model, {"a": ("lora", {"r": 4}, paths)})
    sites = []
    for at, site in enumerate(plan.sites):
        given = site.settings | {"r": 2 + at % 3, "alpha": 4 + at % 2}
        module = described(model.get_submodule(site.path), site.path)
        method = METHODS["lora"]
        change = {"settings": given, "scale": method.scale(module, given), "added": method.added(module, given)}
        sites.append(site.model_copy(update=change))
    added = sum(site.added for site in sites)
    totals = plan.totals.model_copy(update={"added": added, "trainable": added})
    plan = plan.model_copy(update={"sites": sites, "totals": totals})
    other = copy.deepcopy(model)
    plain = by_peft(other, lower(model, plan)[0].config, "a").train(trained)
    assert_same(apply(model, plan), plain)


def test_a_second_adapter_of_the_plan_is_as_plain_peft_adds_it(plan_for):
    model, paths = triples("lora", {})
    other = copy.deepcopy(model)
    plan = plan_for(model, {"a": ("lora", {"r": 4}, paths[::2]), "b": ("lora", {"rslora": True}, paths[1::2])})
    first, second = (copy.deepcopy(lowered.config) for lowered in lower(model, plan))
    plain = by_peft(other, first, "a")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        plain.add_adapter("b", second)
    plain.base_model.set_adapter(["a", "b"])
    adapted = apply(model, plan)
    assert_same(adapted, plain)


def test_copies_are_taken_where_they_can_be(plan_for):
    """So that the comparisons above compare copies."""
    for method, settings in CASES:
        model, paths = triples(method, settings)
        plan = plan_for(model, {"a": (method, settings, paths)})
        groups = prototypes(plan.sites, dict(named_modules(model)))
        stamped = sum(len(group.copies) for group in groups)
        assert stamped == (0 if (method, settings) in NOT_COPIED else len(paths) * 2 // 3)


@pytest.mark.parametrize(("method", "settings"), CASES, ids=SHOWN)
def test_copies_start_with_values_of_the_same_distribution_and_their_own(method, settings, plan_for):
    torch.manual_seed(0)
    given = settings | ({"r": 16} if METHODS[method].setting("r") else {})
    model = nn.Sequential(*(nn.Linear(200, 300) for _ in range(3)))
    other = copy.deepcopy(model)
    plan = plan_for(model, {"a": (method, given, ["0", "1", "2"])})
    plain = dict(by_peft(other, lower(model, plan)[0].config, "a").named_parameters())
    adapted = dict(apply(model, plan).named_parameters())
    assert adapted.keys() == plain.keys()
    drawn = 0
    for name, parameter in adapted.items():
        if "base_layer" not in name:
            assert numbers(parameter) == pytest.approx(numbers(plain[name]), rel=0.35, abs=1e-12), name
            twin = adapted[name.replace(".1.", ".2.")] if ".1." in name else None
            drawn += parameter.std() > 0
            assert twin is None or parameter.std() == 0 or not torch.equal(parameter, twin)
    assert drawn or (method, settings) in STILL


@pytest.mark.parametrize(("method", "settings"), CASES, ids=SHOWN)
def test_no_parameter_keeps_what_was_in_memory(method, settings, plan_for):
    model, paths = triples(method, settings)
    plan = plan_for(model, {"a": (method, settings, paths)})
    torch.use_deterministic_algorithms(True)  # new memory is filled with NaN
    try:
        adapted = apply(model, plan)
    finally:
        torch.use_deterministic_algorithms(False)
    assert all(parameter.isfinite().all() for parameter in adapted.parameters())


def test_modules_that_differ_in_anything_get_layers_of_their_own(plan_for):
    model = nn.Sequential(*(nn.Linear(4, 4) for _ in range(8)))
    model[1].bias = None
    model[2].double()
    model[3].eval()
    model[4].note = "read by nobody knows whom"
    model[5].state = torch.ones(3)
    model[6].weight = nn.Parameter(model[6].weight.t())
    plan = plan_for(model, {"a": ("lora", {"r": 2}, [str(i) for i in range(8)])})
    groups = prototypes(plan.sites, dict(named_modules(model)))
    assert {group.site.path: [site.path for site in group.copies] for group in groups} == {
        "0": ["6", "7"],
        "1": [],
        "2": [],
        "3": [],
        "4": [],
        "5": [],
    }


# --- what people do with the model afterwards ------------------------------------------------


def llama():
    torch.manual_seed(0)
    return LlamaForCausalLM(
        LlamaConfig(vocab_size=64, hidden_size=32, intermediate_size=48, num_hidden_layers=3, num_attention_heads=4)
    ).eval()


IDS = torch.arange(12).reshape(2, 6)


@pytest.fixture(name="pair")
def _pair(plan_for):
    """A model with copied layers and one that PEFT made, with the same weights in all."""
    model, other = llama(), llama()
    paths = [path for path, module in model.named_modules() if isinstance(module, nn.Linear) and path != "lm_head"]
    plan = plan_for(model, {"default": ("lora", {"r": 4, "alpha": 8}, paths)})
    plain = by_peft(other, lower(model, plan)[0].config, "default").eval()
    adapted = apply(model, plan)
    fill(adapted)
    plain.load_state_dict(adapted.state_dict())
    return adapted, plain


def fill(model):
    torch.manual_seed(3)
    for parameter in model.parameters():
        if parameter.requires_grad:
            nn.init.normal_(parameter, std=0.1)


def outputs(model):
    with torch.no_grad():
        return model(IDS).logits


def test_saved_by_peft_it_loads_on_a_fresh_base(pair, tmp_path):
    adapted, plain = pair
    for name, model in (("adapted", adapted), ("plain", plain)):
        model.save_pretrained(tmp_path / name)
    for file in ("adapter_model.safetensors", "adapter_config.json"):
        assert (tmp_path / "adapted" / file).read_bytes() == (tmp_path / "plain" / file).read_bytes()
    loaded = PeftModel.from_pretrained(llama(), tmp_path / "adapted")
    assert torch.equal(outputs(loaded), outputs(adapted))


OPERATIONS = {
    "merge": lambda model: outputs(model.merge_and_unload()),
    "unload": lambda model: outputs(model.unload()),
    "disable": lambda model: _disabled(model),
    "delete": lambda model: _replaced(model),
    "scale": lambda model: _scaled(model),
    "combine": lambda model: _combined(model),
    "move": lambda model: outputs(model.double()),
    "copy": lambda model: outputs(copy.deepcopy(model)),
}


def _disabled(model):
    with model.disable_adapter():
        return outputs(model)


def _scaled(model):
    for module in model.modules():
        if isinstance(module, BaseTunerLayer):
            module.scale_layer(0.5)
    return outputs(model)


def _with_another(model):
    model.add_adapter("other", copy.deepcopy(model.peft_config["default"]))
    for name, parameter in model.named_parameters():
        if ".other." in name:
            nn.init.constant_(parameter, 0.02)


def _replaced(model):
    _with_another(model)
    model.set_adapter("other")
    model.delete_adapter("default")
    return outputs(model)


def _combined(model):
    _with_another(model)
    model.add_weighted_adapter(["default", "other"], [0.5, 2.0], "both", combination_type="cat")
    model.set_adapter("both")
    return outputs(model)


@pytest.mark.parametrize("operation", OPERATIONS)
def test_what_peft_does_with_its_own_model_it_does_with_this_one(operation, pair):
    adapted, plain = pair
    before = outputs(adapted)
    result, expected = OPERATIONS[operation](adapted), OPERATIONS[operation](plain)
    assert torch.equal(result, expected)
    if operation not in ("merge", "copy", "move"):
        assert not torch.equal(result, before)
    assert first_difference(structure(adapted), structure(plain)) is None


def test_training_steps_are_the_same(pair):
    for model in pair:
        model.train()
        optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
        for _ in range(2):
            optimizer.zero_grad()
            model(IDS, labels=IDS).loss.backward()
            optimizer.step()
    adapted, plain = pair
    assert all(torch.equal(a, b) for a, b in zip(adapted.parameters(), plain.parameters(), strict=True))
    assert {name for name, p in adapted.named_parameters() if p.grad is not None} == {
        f"base_model.model.{path}.{part}.default.weight"
        for path, module in named_modules(base_model(adapted))
        if isinstance(module, BaseTunerLayer)
        for part in ("lora_A", "lora_B")
    }
