"""The kinds of layers and methods that a runtime swaps, prepares, or refuses to prepare."""

import json
import warnings
from pathlib import Path

import pytest
import torch
from torch import nn

import surgery
from surgery.diagnostics import SurgeryError
from surgery.methods import METHODS

CLOSE = {"rtol": 1e-5, "atol": 1e-5}


class Layers(nn.Module):
    """One of every kind of layer that LoRA adapts by a rank."""

    def __init__(self):
        super().__init__()
        self.tokens = nn.Embedding(20, 16)
        self.one = nn.Conv1d(16, 12, 3, padding=1)
        self.grouped = nn.Conv1d(12, 12, 3, padding=1, groups=3)
        self.two = nn.Conv2d(1, 4, 3, padding=1)
        self.norm = nn.LayerNorm(4)
        self.head = nn.Linear(4, 12)

    def forward(self, ids):
        x = self.grouped(self.one(self.tokens(ids).transpose(1, 2)))
        return self.head(self.norm(self.two(x[:, None]).mean((2, 3))))


@pytest.fixture
def layers(adapters_of):
    def build():
        torch.manual_seed(0)
        return Layers().eval()

    return adapters_of(build, {"ids": torch.arange(12).reshape(2, 6)})


def swapped(adapters, first, second, max_rank=None):
    """A model with the first adapter, which the second replaces, and the runtime that did it."""
    model = adapters.adapted(first.plan).eval()
    runtime = surgery.Runtime(model, first.plan)
    if max_rank:
        runtime.prepare(max_rank)
    runtime.replace("default", first.folder)
    torch.testing.assert_close(adapters.outputs(model), first.expected, **CLOSE)
    runtime.load("second", second.folder, plan=second.plan)
    runtime.switch("second")
    torch.testing.assert_close(adapters.outputs(model), second.expected, **CLOSE)
    return model, runtime


ALL = 'path("tokens", "one", "grouped", "two", "head")'


def test_every_kind_of_layer_is_padded(layers):
    first = layers.saved("first", layers.plan("lora { r = 3  alpha = 6 }", ALL))
    second = layers.saved("second", layers.plan("lora { r = 6  alpha = 5  rslora = true }", ALL), seed=2)
    model, runtime = swapped(layers, first, second, max_rank=12)
    runtime.switch("default")
    torch.testing.assert_close(layers.outputs(model), first.expected, **CLOSE)
    state = runtime.state()
    assert state["base_model.model.grouped.lora_A.weight"].shape == (3, 12, 3)
    assert state["base_model.model.tokens.lora_embedding_B"].shape == (16, 3)
    runtime.combine("sum", {"default": 2.0, "second": -1.0})
    runtime.switch("sum")
    updates = {}
    for name in ("sum", "default", "second"):
        runtime.switch(name)
        updates[name] = updates_of(model)
    for summed, own, theirs in zip(*updates.values(), strict=True):
        torch.testing.assert_close(summed, 2 * own - theirs, rtol=1e-4, atol=1e-4)
    runtime.disable()
    assert torch.equal(layers.outputs(model), layers.base)


def updates_of(model):
    """What the adapter adds to the output of each layer, on inputs that are the same each time."""
    base, generator = model.base_model.model, torch.Generator().manual_seed(3)
    inputs = {
        base.tokens: torch.arange(6),
        base.one: torch.randn(2, 16, 9, generator=generator),
        base.grouped: torch.randn(2, 12, 9, generator=generator),
        base.two: torch.randn(2, 1, 9, 9, generator=generator),
        base.head: torch.randn(2, 4, generator=generator),
    }
    with torch.no_grad():
        return [layer(x) - layer.base_layer(x) for layer, x in inputs.items()]


def test_groups_have_to_divide_the_rank(layers):
    plan = layers.plan("lora { r = 3 }", 'path("grouped")')
    runtime = surgery.Runtime(layers.adapted(plan), plan)
    with pytest.raises(SurgeryError, match="a convolution whose groups do not divide the rank 4: grouped"):
        runtime.prepare(4)
    assert runtime.max_rank is None


def test_a_gradient_that_is_waiting_is_not_dropped(layers):
    plan = layers.plan("lora { r = 3 }", 'path("head")')
    model = layers.adapted(plan)
    runtime = surgery.Runtime(model, plan)
    model(**layers.inputs).sum().backward()
    with pytest.raises(SurgeryError, match="holds a gradient"):
        runtime.prepare(4)
    model.zero_grad()
    runtime.prepare(4)


def test_padding_stays_zero_in_training(layers):
    """Each side of the padding is multiplied by the other, which is zero, so neither gets a gradient."""
    plan = layers.plan("lora { r = 3 }", 'path("head", "two")')
    saved = layers.saved("one", plan)
    model = layers.adapted(plan)
    runtime = surgery.Runtime(model, plan)
    runtime.prepare(8)
    runtime.replace("default", saved.folder)
    plain = layers.adapted(plan)
    surgery.inject.load_adapters(plain, plan, saved.folder)
    for one in (model, plain):
        optimiser = torch.optim.AdamW([p for p in one.parameters() if p.requires_grad], lr=0.1, weight_decay=0.1)
        for _ in range(3):
            optimiser.zero_grad()
            one(**layers.inputs).square().sum().backward()
            optimiser.step()
    expected = surgery.inject.adapter_state(plain, plan)["default"]
    for key, tensor in runtime.state().items():
        torch.testing.assert_close(tensor, expected[key], rtol=1e-3, atol=1e-4)
    padded = model.base_model.model.head.lora_A["default"].weight
    assert padded.shape[0] == 8
    assert not padded[3:].any()


def test_loha_of_other_ranks(layers):
    both = 'path("one", "two", "head")'
    first = layers.saved("first", layers.plan("loha { r = 2  alpha = 1  effective_conv2d = true }", both))
    second = layers.saved("second", layers.plan("loha { r = 4  alpha = 6  effective_conv2d = true }", both), seed=2)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="To copy construct from a tensor")  # PEFT's LoHa, of its scale
        _, runtime = swapped(layers, first, second, max_rank=5)
        assert runtime.state()["base_model.model.two.hada_t1"].shape == (4, 4, 3, 3)
        with pytest.raises(SurgeryError, match="only sums of plain LoRA are LoRA again"):
            runtime.combine("sum", {"default": 1.0, "second": 1.0})


def test_lokr_of_other_ranks(layers):
    """As long as PEFT stores the same factors in two parts: W2 of `head` is whole from a rank of 3 on."""
    settings, both = "alpha = 3  effective_conv2d = true  decompose_factor = 2", 'path("one", "head")'
    first = layers.saved("first", layers.plan(f"lokr {{ r = 2  {settings} }}", both))
    part = layers.saved("part", layers.plan(f"lokr {{ r = 3  {settings} }}", 'path("one")'), seed=2)
    _, runtime = swapped(layers, first, part, max_rank=8)
    assert runtime.state()["base_model.model.one.lokr_t2"].shape == (3, 3, 3, 1)
    whole = layers.saved("whole", layers.plan(f"lokr {{ r = 3  {settings} }}", both), seed=3)
    with pytest.raises(SurgeryError, match=r"not in the adapter: base_model\.model\.head\.lokr_w2_a"):
        runtime.load("whole", whole.folder)


@pytest.mark.parametrize(
    ("method", "reason"),
    [
        ("lora { r = 2  dora = true }", "DoRA rescales the base weight whatever the scale is"),
        ("ia3 {}", "ia3 has no rank to pad and no scale that removes it"),
    ],
)
def test_a_method_that_cannot_be_prepared_is_swapped_all_the_same(layers, method, reason):
    plan = layers.plan(method, 'path("head")')
    first, second = layers.saved("first", plan), layers.saved("second", plan, seed=2)
    model, runtime = swapped(layers, first, second)
    before = {name: (id(p), p.shape) for name, p in model.named_parameters()}
    with pytest.raises(SurgeryError, match=reason):
        runtime.prepare(8)
    assert before == {name: (id(p), p.shape) for name, p in model.named_parameters()}
    assert torch.equal(layers.outputs(model), second.expected)
    runtime.disable()
    assert torch.equal(layers.outputs(model), layers.base)
    runtime.enable()
    assert torch.equal(layers.outputs(model), second.expected)


def test_adapters_on_parameters_are_not_swapped(layers):
    plan = layers.plan("lora { r = 2 }", 'param("head.weight")')
    with pytest.raises(SurgeryError, match=r"an adapter on a parameter, not on a module: head\.weight"):
        surgery.Runtime(layers.adapted(plan), plan)


def test_what_has_no_scale_is_not_scaled(layers):
    plan = layers.plan("ia3 {}", 'path("head")')
    runtime = surgery.Runtime(layers.adapted(plan), plan)
    with pytest.raises(SurgeryError, match="its method has no scale: head"):
        runtime.scale(0.5)


def test_modules_that_are_trained_in_full_are_swapped_with_the_adapter(layers):
    plan = layers.plan("lora { r = 2 }", 'path("one")', 'train { select path("head") }')
    first, second = layers.saved("first", plan), layers.saved("second", plan, seed=2)
    model, runtime = swapped(layers, first, second)
    flags = [p.requires_grad for p in model.parameters()]
    runtime.disable()
    assert torch.equal(layers.outputs(model), layers.base)
    runtime.enable()
    assert torch.equal(layers.outputs(model), second.expected)
    assert [p.requires_grad for p in model.parameters()] == flags
    with pytest.raises(SurgeryError, match="trained in full: such a module is switched off by a flag"):
        runtime.prepare(4)
    with pytest.raises(SurgeryError, match="trains modules in full, which have no sum"):
        runtime.combine("sum", {"default": 0.5, "second": 0.5})


def test_half_precision_keeps_the_scale(adapters):
    """The adapter of a bfloat16 model is float32; its scale is no power of two."""
    plan = adapters.plan("lora { r = 6  alpha = 7 rslora = true }")
    saved = adapters.saved("one", plan)
    model = surgery.apply(adapters.build().to(torch.bfloat16), plan).eval()
    fresh = surgery.apply(adapters.build().to(torch.bfloat16), plan).eval()
    surgery.inject.load_adapters(fresh, plan, saved.folder)
    runtime = surgery.Runtime(model, plan)
    runtime.prepare(6)
    runtime.replace("default", saved.folder)
    assert torch.equal(adapters.outputs(model), adapters.outputs(fresh))


CASES = Path(__file__).parents[1] / "methods" / "cases"
ELSEWHERE = {"ln_tuning": 'path("norm")', "trainable_tokens": 'path("tokens")'}


class Linears(nn.Module):
    """Two layers that every method of linears can adapt, and those of the methods that adapt none."""

    def __init__(self):
        super().__init__()
        self.tokens = nn.Embedding(30, 16)
        self.one, self.two = nn.Linear(16, 16), nn.Linear(16, 16)
        self.norm = nn.LayerNorm(16)

    def forward(self, ids):
        return self.norm(self.two(torch.tanh(self.one(self.tokens(ids)))))


@pytest.mark.heavy
@pytest.mark.filterwarnings("ignore")  # of PEFT's
@pytest.mark.parametrize("name", METHODS)
def test_every_method_is_swapped_switched_off_and_saved(adapters_of, name, tmp_path):
    def build():
        torch.manual_seed(0)
        return Linears().eval()

    adapters = adapters_of(build, {"ids": torch.arange(12).reshape(2, 6)})
    given = json.loads((CASES / f"{name}.json").read_text())[0]
    settings = " ".join(f"{key} = {json.dumps(value)}" for key, value in given.items())
    plan = adapters.plan(f"{name} {{ {settings} }}", ELSEWHERE.get(name, 'path("one", "two")'))
    first, second = adapters.saved("first", plan), adapters.saved("second", plan, seed=2)
    assert not torch.allclose(first.expected, second.expected)
    model, runtime = swapped(adapters, first, second)
    runtime.disable()
    assert torch.equal(adapters.outputs(model), adapters.base)
    runtime.enable()
    runtime.switch("default")
    assert torch.equal(adapters.outputs(model), first.expected)
    runtime.save(tmp_path / "again")
    weights = "adapter_model.safetensors"
    assert (tmp_path / "again" / weights).read_bytes() == (first.folder / weights).read_bytes()
    if name in ("lora", "loha", "lokr"):
        runtime.prepare(8)
        torch.testing.assert_close(adapters.outputs(model), first.expected, **CLOSE)
    else:
        with pytest.raises(SurgeryError, match=f"{name} has no rank to pad and no scale that removes it"):
            runtime.prepare(8)
        assert torch.equal(adapters.outputs(model), first.expected)
