"""Applying plans to real models with real PEFT: exact, or the model is as it was."""

import copy
import warnings

import peft
import pytest
import torch
from accelerate import dispatch_model
from f5_tts.model import DiT
from model_structure import first_difference, structure, traces
from torch import nn
from transformers import BertConfig, BertModel, GPT2Config, GPT2LMHeadModel

from surgery.diagnostics import SurgeryError
from surgery.inject import add_adapter, apply, base_model
from surgery.inject.state import trainable_tensors
from surgery.verifying import verify

ATTENTION = ("attn.to_q", "attn.to_k", "attn.to_v", "attn.to_out.0")
FEED_FORWARD = ("ff.ff.0.0", "ff.ff.2")


class Convolutions(nn.Module):
    def __init__(self):
        super().__init__()
        self.tokens = nn.Embedding(20, 8)
        self.one = nn.Conv1d(8, 12, 3, padding=1)
        self.grouped = nn.Conv1d(12, 12, 3, padding=1, groups=3)
        self.two = nn.Conv2d(1, 4, 3, padding=1)
        self.soft_gate = nn.Linear(4, 4)  # holds `oft_`, which PeftMixedModel takes for an adapter
        self.head = nn.ModuleList([nn.Linear(4, 4), nn.LayerNorm(4)])

    def forward(self, ids):
        x = self.grouped(self.one(self.tokens(ids).transpose(1, 2)))
        x = self.two(x[:, None]).mean((2, 3))
        return self.head[1](self.head[0](self.soft_gate(x)))


def small_dit():
    return DiT(dim=64, depth=2, heads=2, ff_mult=2, text_dim=32, conv_layers=1, text_num_embeds=30).eval()


def dit_inputs():
    torch.manual_seed(1)
    return {
        "x": torch.randn(2, 12, 100),
        "cond": torch.randn(2, 12, 100),
        "text": torch.randint(30, (2, 6)),
        "time": torch.rand(2),
    }


def blocks(depth, names):
    return [f"transformer_blocks.{i}.{name}" for i in range(depth) for name in names]


def bert():
    return BertModel(BertConfig(hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=48))


def gpt2():
    return GPT2LMHeadModel(GPT2Config(n_embd=32, n_layer=2, n_head=2, vocab_size=50, n_positions=32)).eval()


CASES = {
    "dit-lora": (small_dit, {"attention": ("lora", {"r": 4}, blocks(2, ATTENTION))}, dit_inputs),
    "dit-loha": (small_dit, {"attention": ("loha", {"r": 4}, blocks(2, ATTENTION))}, dit_inputs),
    "dit-both": (
        small_dit,
        {
            "attention": ("lora", {"r": 4, "dropout": 0.1}, blocks(2, ATTENTION)),
            "feed_forward": ("loha", {"r": 2}, blocks(2, FEED_FORWARD)),
        },
        dit_inputs,
    ),
    "dit-several-lora": (
        small_dit,
        {
            "query": ("lora", {"r": 4, "dora": True}, blocks(2, ATTENTION[:1])),
            "key": ("lora", {"r": 8, "rslora": True}, blocks(2, ATTENTION[1:2])),
            "ff": ("lora", {"r": 2, "init": "gaussian"}, blocks(2, FEED_FORWARD)),
        },
        dit_inputs,
    ),
    "bert": (
        lambda: bert().eval(),
        # The adapter is called like a module of the model, which PEFT's saving by names would mistake for it.
        {
            "attention": ("lora", {"r": 4}, [f"encoder.layer.{i}.attention.self.query" for i in range(2)]),
            "words": ("lora", {"r": 2, "dora": True}, ["embeddings.word_embeddings"]),
        },
        lambda: {"input_ids": torch.arange(12).reshape(2, 6)},
    ),
    "gpt2": (
        gpt2,
        {
            "all": (
                "lora",
                {"r": 4, "dora": True},
                ["transformer.h.0.attn.c_attn", "transformer.h.1.mlp.c_proj", "lm_head"],
            )
        },
        lambda: {"input_ids": torch.arange(12).reshape(2, 6)},
    ),
    "convolutions": (
        lambda: Convolutions().eval(),
        {
            "lora": ("lora", {"r": 6}, ["one", "grouped", "tokens"]),
            "loha": ("loha", {"r": 2, "effective_conv2d": True}, ["two"]),
        },
        lambda: (torch.arange(12).reshape(2, 6),),
    ),
}


def run(model, inputs):
    result = model(**inputs) if isinstance(inputs, dict) else model(*inputs)
    return result if isinstance(result, torch.Tensor) else result[0]


@pytest.mark.parametrize("case", CASES)
def test_adapts_exactly_and_starts_as_the_base_model(case, plan_for):
    build, targets, inputs = CASES[case]
    torch.manual_seed(0)
    model = build()
    plan = plan_for(model, targets)
    with torch.no_grad():
        before = run(model, inputs())
    parameters = dict(model.named_parameters())
    adapted = apply(model, plan)
    assert isinstance(adapted, peft.PeftMixedModel if len({s.method for s in plan.sites}) > 1 else peft.PeftModel)
    with torch.no_grad():
        assert torch.equal(run(adapted, inputs()), before)
    trainable = {name for name, p in adapted.named_parameters() if p.requires_grad}
    assert sum(p.numel() for p in adapted.parameters() if p.requires_grad) == plan.totals.added
    assert {name.split("base_model.model.")[1].split(".lora_")[0].split(".hada_")[0] for name in trainable} == {
        site.path for site in plan.sites
    }
    # The base model's own parameter objects are all still there, and frozen.
    own = {id(p) for p in adapted.parameters() if not p.requires_grad}
    assert {id(p) for p in parameters.values()} == own


@pytest.mark.parametrize("case", CASES)
def test_every_adapter_acts_on_the_output(case, plan_for):
    build, targets, inputs = CASES[case]
    model = build()
    for module in model.modules():  # a fresh DiT's zero gates and output layer would hide everything
        if isinstance(module, nn.Linear) and not module.weight.any():
            nn.init.normal_(module.weight, std=0.1)
    adapted = apply(model, plan_for(model, targets))
    with torch.no_grad():
        before = run(adapted, inputs())
        for site in plan_for_sites(adapted):
            original = [(p, p.clone()) for p in site]
            for p in site:
                p.add_(torch.randn_like(p))
            assert not torch.equal(run(adapted, inputs()), before)
            for p, value in original:
                p.copy_(value)


def plan_for_sites(adapted):
    """The trainable parameters of every adapted layer."""
    layers = [m for m in adapted.modules() if isinstance(m, peft.tuners.tuners_utils.BaseTunerLayer)]
    return [[p for p in layer.parameters() if p.requires_grad] for layer in layers]


def test_ranks_and_alphas_may_differ_within_one_adapter(plan_for):
    model = small_dit()
    plan = plan_for(model, {"a": ("lora", {"r": 4, "alpha": 4}, blocks(2, ATTENTION))})
    other = plan_for(model, {"a": ("lora", {"r": 8, "alpha": 2}, blocks(2, ATTENTION))})
    sites = [other.sites[i] if i in (1, 6) else site for i, site in enumerate(plan.sites)]
    added = sum(site.added for site in sites)
    totals = plan.totals.model_copy(update={"added": added, "trainable": added})
    adapted = apply(model, plan.model_copy(update={"sites": sites, "totals": totals}))
    layers = base_model(adapted)
    assert {s.path: layers.get_submodule(s.path).r["a"] for s in sites} == {s.path: s.settings["r"] for s in sites}
    assert layers.get_submodule(sites[1].path).scaling["a"] == 0.25


def test_trained_modules_are_trained_and_nothing_else(plan_for):
    model = Convolutions().eval()
    plan = plan_for(model, {"a": ("lora", {"r": 2}, ["soft_gate"])}, trained=["head", "head.0", "head.1"])
    adapted = apply(model, plan)
    names = {name for name, p in adapted.named_parameters() if p.requires_grad and "lora_" not in name}
    assert names == {f"base_model.model.head.{i}.modules_to_save.a.{n}" for i in (0, 1) for n in ("weight", "bias")}
    assert isinstance(base_model(adapted).head, nn.ModuleList)


def test_training_flags_stay_as_they_were(plan_for):
    model = small_dit().train()
    model.transformer_blocks[1].eval()
    before = {id(module): module.training for module in model.modules()}
    adapted = apply(model, plan_for(model, CASES["dit-both"][1]))
    assert all(before[id(m)] == m.training for m in adapted.modules() if id(m) in before)
    block = base_model(adapted).transformer_blocks[1]
    assert not any(module.training for module in block.modules())
    assert adapted.training
    assert base_model(adapted).transformer_blocks[0].attn.to_q.lora_dropout["attention"].training


@pytest.mark.parametrize("case", CASES)
def test_applying_warns_of_nothing(case, plan_for):
    build, targets, _ = CASES[case]
    model = build()
    if case == "gpt2":
        targets = {"all": ("lora", {"r": 4}, ["transformer.h.0.attn.c_attn", "transformer.h.1.mlp.c_proj"])}
    if case == "bert":
        targets = {"attention": targets["attention"]}
    plan = plan_for(model, targets)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        apply(model, plan)


# --- refused before anything changes --------------------------------------------------------


def refused(model, plan, code):
    state = traces(model)
    with pytest.raises(SurgeryError) as error:
        apply(model, plan)
    assert traces(model) == state
    assert {d.code for d in error.value.diagnostics} == {code}
    assert all(d.helps for d in error.value.diagnostics)
    return str(error.value)


def test_a_plan_with_errors_is_refused(plan_for):
    model = small_dit()
    plan = plan_for(model, CASES["dit-lora"][1], applyable=False)
    refused(model, plan, "E0511")


def test_a_plan_that_asks_for_nothing_changes_nothing(plan_for):
    model = small_dit()
    plan, state = plan_for(model, {}), traces(model)
    assert apply(model, plan) is model
    assert traces(model) == state
    with pytest.raises(SurgeryError, match="E0511"):  # and there is nothing to verify
        verify(model, plan, {})


def test_training_without_an_adapter_is_refused(plan_for):
    model = small_dit()
    refused(model, plan_for(model, {}, trained=["proj_out"]), "E0511")


def test_another_model_is_refused_with_the_difference(plan_for):
    plan = plan_for(small_dit(), CASES["dit-lora"][1])
    other = DiT(dim=64, depth=1, heads=2, ff_mult=2, text_dim=32, conv_layers=1, text_num_embeds=30)
    text = refused(other, plan, "E0506")
    assert "`transformer_blocks.1.attn.to_q` does not exist" in text
    assert "a difference of -" in text


def test_other_shapes_and_kinds_are_refused(plan_for):
    model = Convolutions()
    plan = plan_for(model, {"a": ("lora", {"r": 2}, ["soft_gate", "one"])})
    model.soft_gate = nn.Linear(5, 4)
    model.one = nn.Conv2d(8, 12, 3)
    text = refused(model, plan, "E0506")
    assert "weight of shape [4, 5], the plan says [4, 4]" in text
    assert "Conv2d, the plan says Conv1d" in text


def test_a_model_with_adapters_is_refused(plan_for):
    model = small_dit()
    plan = plan_for(model, CASES["dit-lora"][1])
    apply(model, plan)
    assert "already carries" in refused(model, plan, "E0506")


def test_a_module_in_two_places_is_refused(plan_for):
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    model.append(model[0])
    assert "the same module as `2`" in refused(model, plan_for(model, {"a": ("lora", {"r": 2}, ["0"])}), "E0506")


def test_a_dilated_convolution_is_refused(plan_for):
    plan = plan_for(nn.Sequential(nn.Conv1d(4, 4, 3)), {"a": ("lora", {"r": 2}, ["0"])})
    assert "dilation" in refused(nn.Sequential(nn.Conv1d(4, 4, 3, dilation=2)), plan, "E0506")


def test_trained_modules_that_peft_would_take_too_many_of_are_refused(plan_for):
    model = nn.ModuleDict(
        {"norm": nn.LayerNorm(4), "block": nn.ModuleDict({"norm": nn.LayerNorm(4), "q": nn.Linear(4, 4)})}
    )
    plan = plan_for(model, {"a": ("lora", {"r": 2}, ["block.q"])}, trained=["norm"])
    assert "would also take `block.norm`" in refused(model, plan, "E0406")


def test_a_trained_module_that_would_keep_adapters_out_is_refused(plan_for):
    # `modules_to_save` is a pattern to PEFT: `a.b` as a pattern also is `a-b`, and adapters stay out of that.
    model = nn.ModuleDict({"a": nn.ModuleDict({"b": nn.LayerNorm(4)}), "a-b": nn.ModuleDict({"q": nn.Linear(4, 4)})})
    plan = plan_for(model, {"t": ("lora", {"r": 2}, ["a-b.q"])}, trained=["a.b"])
    assert "would not take `a-b.q`" in refused(model, plan, "E0406")


@pytest.mark.parametrize("name", ["keys", "train", "a.b"])
def test_adapter_names_that_pytorch_has_itself_are_refused(name, plan_for):
    model = nn.Sequential(nn.Linear(4, 4))
    assert "rename the target" in refused(model, plan_for(model, {name: ("lora", {"r": 2}, ["0"])}), "E0406")


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"scale": 3.0}, "its scale is 1.0, planned 3.0"),
        ({"added": 5}, "adds 768 parameters, planned 5"),
    ],
    ids=["scale", "added"],
)
def test_a_plan_that_peft_carries_out_otherwise_is_undone(change, expected, plan_for):
    model = small_dit()
    plan = plan_for(model, {"a": ("lora", {"r": 4, "alpha": 4}, blocks(2, ATTENTION))})
    sites = [site.model_copy(update=change) if i == 3 else site for i, site in enumerate(plan.sites)]
    text = refused(model, plan.model_copy(update={"sites": sites}), "E0509")
    assert "`transformer_blocks.0.attn.to_out.0`: " + expected in text


def test_totals_that_do_not_add_up_are_undone(plan_for):
    model = small_dit()
    plan = plan_for(model, CASES["dit-lora"][1])
    totals = plan.totals.model_copy(update={"trainable": 7})
    assert "trainable, planned 7" in refused(model, plan.model_copy(update={"totals": totals}), "E0509")


def test_trainable_tensors_are_those_that_require_gradients(plan_for):
    model = Convolutions()
    plan = plan_for(model, CASES["convolutions"][1], trained=["head.1"])
    adapted = apply(model, plan)
    listed = {id(tensor) for tensor in trainable_tensors(adapted, plan)}
    assert listed == {id(p) for p in adapted.parameters() if p.requires_grad}


def test_a_bfloat16_model_keeps_its_weights_and_gets_float32_adapters(plan_for):
    model = small_dit().to(torch.bfloat16)
    original = copy.deepcopy(model.state_dict())
    adapted = apply(model, plan_for(model, CASES["dit-both"][1]))
    assert {p.dtype for p in adapted.parameters() if p.requires_grad} == {torch.float32}
    kept = {k.replace("base_model.model.", "").replace(".base_layer", ""): v for k, v in adapted.state_dict().items()}
    assert all(kept[name].dtype == value.dtype for name, value in original.items())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_dora_starts_as_the_base_model_in_half_precision(plan_for, dtype):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Embedding(20, 64), nn.Linear(64, 64), nn.Conv1d(6, 6, 3)).to(dtype).eval()
    ids = torch.arange(12).reshape(2, 6)
    plan = plan_for(model, {"a": ("lora", {"r": 4, "dora": True}, ["0", "1", "2"])})
    before = model(ids)
    adapted = apply(model, plan)
    assert torch.equal(adapted(ids), before)
    assert verify(adapted, plan, ids).identity.status == "exact"


def test_parameters_in_one_buffer_are_counted_one_by_one(plan_for):
    """As those of an `nn.LSTM` are on a GPU (`flatten_parameters`)."""
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    plan = plan_for(model, {"a": ("lora", {"r": 2}, ["0"])})
    buffer = torch.cat([p.detach().flatten() for p in model[1].parameters()])
    model[1].weight.data, model[1].bias.data = buffer[:16].view(4, 4), buffer[16:]
    apply(model, plan)


@pytest.mark.parametrize("container", [nn.ParameterList([torch.ones(4)]), nn.ParameterDict({"u": torch.ones(4)})])
def test_containers_that_peft_cannot_train_are_refused_before_anything_changes(container, plan_for):
    model = nn.ModuleDict({"linear": nn.Linear(4, 4), "gains": container})
    plan = plan_for(model, {"a": ("lora", {"r": 2}, ["linear"])}, trained=["gains"])
    before = traces(model)
    with pytest.raises(SurgeryError, match=rf"E0406.*`gains` \({type(container).__name__}\)"):
        apply(model, plan)
    assert traces(model) == before


def offload(model, *paths, directory):
    places = {path: "disk" if path in paths else "cpu" for path, _ in model.named_children()}
    return dispatch_model(model, places, main_device="cpu", offload_dir=directory, force_hooks=True)


def test_a_module_whose_weights_are_offloaded_is_refused(plan_for, tmp_path):
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4), nn.LayerNorm(4))
    x, plans = torch.randn(2, 4), [plan_for(model, {"a": ("lora", {"r": 2}, [path])}) for path in "01"]
    trains = plan_for(model, {"a": ("lora", {"r": 2}, ["0"])}, trained=["2"])
    expected = model(x)
    offload(model, "1", "2", directory=tmp_path)
    before = structure(model)
    for plan, path in ((plans[1], "1"), (trains, "2")):
        with pytest.raises(SurgeryError, match=f"E0506.*elsewhere, beginning with `{path}`"):
            apply(model, plan)
        assert first_difference(structure(model), before) is None
    adapted = apply(model, plans[0])  # of the others, nothing is needed
    assert torch.equal(adapted(x), expected)
    with pytest.raises(SurgeryError, match=r"E0506.*elsewhere, beginning with `1`"):
        add_adapter(adapted, plans[1].sites, "b")


def test_an_adapted_model_can_be_offloaded(plan_for, tmp_path):
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    adapted = apply(model, plan_for(model, {"a": ("lora", {"r": 2}, ["0", "1"])}))
    for parameter in adapted.parameters():
        nn.init.normal_(parameter)
    x = torch.randn(2, 4)
    expected = model(x)
    offload(model, "1", directory=tmp_path)
    assert torch.equal(adapted(x), expected)


def test_what_is_applied_in_inference_mode_can_be_trained(plan_for):
    model = nn.Sequential(nn.Linear(4, 4), nn.Conv1d(1, 1, 1), nn.LayerNorm(4))
    plan = plan_for(model, {"a": ("lora", {"r": 2}, ["0", "1"])}, trained=["2"])
    with torch.inference_mode():
        adapted = apply(model, plan)
    adapted(torch.randn(2, 1, 4)).sum().backward()
    assert all((p.grad is not None) == p.requires_grad for p in adapted.parameters())
