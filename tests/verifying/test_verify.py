"""Verification on real models: what it finds, and that it leaves the model as found."""

import random
from contextlib import nullcontext
from pathlib import Path

import numpy
import pytest
import torch
from f5_tts.model import DiT
from torch import nn

import surgery
from surgery.capturing.build import build_model, example_inputs
from surgery.diagnostics import SurgeryError
from surgery.inject import apply, base_model
from surgery.verifying import verify
from surgery.verifying.outputs import difference


def small_dit():
    torch.manual_seed(0)
    return DiT(dim=64, depth=2, heads=2, ff_mult=2, text_dim=32, conv_layers=1, text_num_embeds=30)


def dit_inputs():
    torch.manual_seed(1)
    x, cond = torch.randn(2, 12, 100), torch.randn(2, 12, 100)
    return {"x": x, "cond": cond, "text": torch.randint(30, (2, 6)), "time": torch.rand(2)}


TARGETS = {
    "attention": ("lora", {"r": 4, "dropout": 0.5}, [f"transformer_blocks.{i}.attn.to_q" for i in range(2)]),
    "feed_forward": ("loha", {"r": 2}, [f"transformer_blocks.{i}.ff.ff.2" for i in range(2)]),
}


def pretrained(model):
    """Trained weights have no all-zero layers."""
    for module in model.modules():
        if isinstance(module, nn.Linear) and not module.weight.any():
            nn.init.normal_(module.weight, std=0.1)
    return model


def trained(adapted):
    """Every trained parameter moved from where it starts."""
    torch.manual_seed(2)
    with torch.no_grad():
        for parameter in adapted.parameters():
            if parameter.requires_grad:
                parameter.add_(0.1 * torch.randn_like(parameter))
    return adapted


class Branches(nn.Module):
    def __init__(self):
        super().__init__()
        self.used, self.detached, self.idle = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, x):
        return {"out": (self.used(x) + self.detached(x).detach(), [torch.softmax(self.used(x), -1)])}


def test_a_pretrained_model_verifies(plan_for):
    model = pretrained(small_dit())
    plan = plan_for(model, TARGETS)
    found = verify(apply(model, plan), plan, dit_inputs())
    assert (found.identity.status, found.identity.difference) == ("exact", 0.0)
    assert (found.gradients.status, found.gradients.reached) == ("reached", 4)
    assert found.sites == 4
    assert found.added == plan.totals.added == found.trainable
    assert found.memory.parameters == found.memory.planned == 4 * found.added
    assert not found.memory.buffers
    assert found.ok
    assert not found.diagnostics
    assert "max abs difference to the base model 0" in str(found)


def test_a_fresh_models_zero_output_layer_is_named_as_what_blocks(plan_for):
    model = small_dit()
    plan = plan_for(model, TARGETS)
    found = verify(apply(model, plan), plan, dit_inputs())
    assert found.ok
    assert found.gradients.status == "blocked"
    assert set(found.gradients.blocked) == {site.path for site in plan.sites}
    [warning] = found.diagnostics
    assert warning.code == "W0906"
    assert "`proj_out`" in warning.notes[0]
    assert "`transformer_blocks.*.attn_norm.linear`" in warning.notes[0]
    assert "norm_out" not in warning.notes[0]  # scales by 1 + 0: lets gradients through


def test_a_step_moves_every_adapter_and_gives_every_parameter_a_gradient(plan_for):
    """Before it only B of LoRA and W2b of LoHa have one."""
    model = pretrained(small_dit())
    plan = plan_for(model, TARGETS, trained=["time_embed"])
    adapted = apply(model, plan)
    before = {name: tensor.clone() for name, tensor in adapted.state_dict().items()}
    gradients = verify(adapted, plan, dit_inputs()).gradients
    assert (gradients.moved, gradients.stuck) == (4, ())
    assert gradients.parameters == 2 * 2 + 4 * 2 + 4 == gradients.parameters_reached
    assert all(torch.equal(tensor, before[name]) for name, tensor in adapted.state_dict().items())


def test_an_adapter_that_a_step_does_not_move_is_an_error(plan_for):
    """Scales of 2 ** 9 in bfloat16, whose next value is 4 more: a step of 0.01 is rounded away."""
    model = Branches().to(torch.bfloat16)
    plan = plan_for(model, {"a": ("lora", {"r": 2}, ["used"])})
    adapted = apply(model, plan)
    layer = base_model(adapted).used
    for matrix in (layer.lora_A["a"], layer.lora_B["a"]):
        matrix.to(torch.bfloat16)
        nn.init.constant_(matrix.weight, 512)
    with pytest.raises(SurgeryError) as error:
        verify(adapted, plan, torch.randn(2, 4, dtype=torch.bfloat16))
    assert [d.code for d in error.value.diagnostics] == ["E0510"]
    assert "a step does not move them" in str(error.value)
    assert "`used`" in str(error.value)


def test_merged_outputs_are_the_adapted_ones_within_the_stated_tolerance(plan_for):
    model = pretrained(small_dit())
    plan = plan_for(model, TARGETS)
    adapted = apply(model, plan)
    trained(adapted)
    merging = verify(adapted, plan, dit_inputs()).merging
    assert merging.merged == 4
    assert not merging.skipped
    for proof in (merging.layers, merging.outputs):
        assert 0 < proof.difference < 1e-5 <= proof.tolerance
    assert "4 modules, equal: outputs to" in str(merging)


def test_fresh_adapters_are_moved_to_be_merged_and_put_back(plan_for):
    model = pretrained(small_dit())
    plan = plan_for(model, TARGETS)
    adapted = apply(model, plan)
    merging = verify(adapted, plan, dit_inputs()).merging
    assert merging.layers.difference > 0
    assert "equal when moved by 0.01" in str(merging)
    assert not base_model(adapted).transformer_blocks[0].attn.to_q.lora_B["attention"].weight.any()


def test_a_module_that_cannot_be_merged_is_skipped_with_its_reason(plan_for):
    """PEFT does not merge into a convolution with groups."""

    class Convolutions(nn.Module):
        def __init__(self):
            super().__init__()
            self.plain, self.grouped = nn.Conv1d(4, 4, 3), nn.Conv1d(4, 4, 3, groups=2)

        def forward(self, x):
            return self.grouped(self.plain(x))

    for paths, merged in ((["plain", "grouped"], 1), (["grouped"], 0)):
        model = Convolutions()
        plan = plan_for(model, {"a": ("lora", {"r": 2}, paths)})
        found = verify(trained(apply(model, plan)), plan, torch.randn(2, 4, 9))
        assert (found.merging.merged, set(found.merging.skipped)) == (merged, {"grouped"})
        assert "groups" in found.merging.skipped["grouped"]
        assert ("not merged: " if merged else "not possible: ") in str(found.merging)


def test_a_merge_that_computes_something_else_is_an_error(plan_for):
    """PEFT's LoRA pads an adapter's input with zeros, whatever its layer pads with."""
    model = nn.Sequential(nn.Conv1d(4, 4, 3, padding=1, padding_mode="circular"))
    plan = plan_for(model, {"a": ("lora", {"r": 2}, ["0"])})
    with pytest.raises(SurgeryError, match="merged into the weights, the adapters compute something else"):
        verify(trained(apply(model, plan)), plan, torch.randn(2, 4, 9))


def test_memory_counts_trained_modules_and_frozen_tensors_that_applying_adds(plan_for):
    model = pretrained(small_dit())
    plan = plan_for(model, TARGETS, trained=["time_embed"])
    base = sum(p.numel() * p.element_size() for p in model.parameters())
    adapted = apply(model, plan)
    memory = verify(adapted, plan, dit_inputs()).memory
    assert memory.parameters == memory.planned == plan.totals.adapter_bytes
    assert not memory.buffers
    after = sum(p.numel() * p.element_size() for p in adapted.parameters())
    assert after - base == memory.parameters


def test_training_the_blocking_layers_unblocks(plan_for):
    model = small_dit()
    for block in model.transformer_blocks:
        nn.init.normal_(block.attn_norm.linear.weight, std=0.1)
    nn.init.normal_(model.proj_out.weight, std=0.1)
    plan = plan_for(model, TARGETS)
    assert verify(apply(model, plan), plan, dit_inputs()).gradients.status == "reached"


def test_modules_that_no_gradient_can_reach_are_errors_with_their_reasons(plan_for):
    model = Branches()
    plan = plan_for(model, {"a": ("lora", {"r": 2}, ["used", "detached", "idle"])})
    with pytest.raises(SurgeryError) as error:
        verify(apply(model, plan), plan, torch.randn(2, 4))
    [found] = error.value.diagnostics
    assert found.code == "E0510"
    assert "2 of 3" in found.message
    assert set(found.notes) == {
        "no gradient comes back to it: its output is detached, unused, or multiplied by zero: `detached`",
        "its module never ran in this call: `idle`",
    }


def test_an_adapter_that_is_not_the_identity_is_an_error_only_where_it_is_promised(plan_for):
    model = pretrained(small_dit())
    plan = plan_for(model, {"a": ("lora", {"r": 2, "init": False}, ["transformer_blocks.0.attn.to_q"])})
    found = verify(apply(model, plan), plan, dit_inputs())
    assert found.identity.status == "skipped"
    assert found.identity.difference > 0
    assert "init = false" in found.identity.skipped


def test_identity_is_not_required_of_a_trained_adapter(plan_for):
    model = pretrained(small_dit())
    plan = plan_for(model, TARGETS)
    adapted = apply(model, plan)
    layer = base_model(adapted).transformer_blocks[1].ff.ff[2]
    nn.init.normal_(layer.hada_w2_b["feed_forward"])
    found = verify(adapted, plan, dit_inputs())
    assert found.identity.status == "skipped"
    assert "no longer fresh" in found.identity.skipped


def test_a_model_whose_forward_hides_an_adapter_difference_is_caught(plan_for):
    """An adapter that is on adds what the base model does not have: a broken promise, made by hand."""

    class Counting(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear, self.calls = nn.Linear(4, 4), 0

        def forward(self, x):
            self.calls += 1
            return self.linear(x) * self.calls

    model = Counting()
    plan = plan_for(model, {"a": ("lora", {"r": 2}, ["linear"])})
    with pytest.raises(SurgeryError) as error:
        verify(apply(model, plan), plan, torch.randn(2, 4))
    assert [d.code for d in error.value.diagnostics] == ["E0510"]
    assert "does not start as the base model" in str(error.value)


def test_a_changed_set_is_an_error(plan_for):
    model = pretrained(small_dit())
    plan = plan_for(model, TARGETS)
    adapted = apply(model, plan)
    base_model(adapted).proj_out.weight.requires_grad_(True)
    with pytest.raises(SurgeryError, match=r"`base_model\.model\.proj_out\.weight` requires a gradient"):
        verify(adapted, plan, dit_inputs())


@pytest.mark.parametrize("prepare", [pretrained, lambda model: model], ids=["reached", "blocked"])
def test_the_model_is_left_as_found(prepare, plan_for):
    model = prepare(small_dit()).train()
    plan = plan_for(model, TARGETS, trained=["time_embed"])
    adapted = apply(model, plan)
    adapted.transformer_blocks[1].eval()
    gradient = torch.ones(3, 4)
    some = next(p for p in adapted.parameters() if p.requires_grad)
    some.grad = torch.ones_like(some)
    torch.manual_seed(5)
    before = state(adapted)
    verify(adapted, plan, dit_inputs())
    torch.manual_seed(5)
    assert state(adapted) == before
    assert gradient.sum() == 12


def state(model):
    return (
        torch.random.get_rng_state().sum().item(),
        [(name, module.training, len(module._forward_hooks)) for name, module in model.named_modules()],
        [(name, p.requires_grad, p.data_ptr(), id(p.grad), p.sum().item()) for name, p in model.named_parameters()],
        [getattr(module, "_disable_adapters", None) for module in model.modules()],
    )


def test_the_random_state_is_left_as_found(plan_for):
    model = pretrained(small_dit())
    plan = plan_for(model, TARGETS)
    adapted, inputs = apply(model, plan), dit_inputs()
    before = torch.random.get_rng_state()
    verify(adapted, plan, inputs)
    assert torch.equal(torch.random.get_rng_state(), before)


class Careless(nn.Module):
    """Counts its calls in a buffer and in an attribute, writes into its inputs, and draws from Python and NumPy."""

    def __init__(self):
        super().__init__()
        self.first, self.last, self.calls = nn.Linear(4, 4), nn.Linear(4, 4), 0
        self.register_buffer("seen", torch.zeros(1))

    def forward(self, x, cache):
        self.calls += 1
        self.seen += 1
        cache.append(x.mul_(2 + random.random() + numpy.random.rand()))
        hidden = self.last(self.first(cache[0]))
        return hidden, hidden.masked_fill(torch.arange(4) > 2, float("-inf"))


@pytest.mark.parametrize("mode", [torch.enable_grad, torch.no_grad, torch.inference_mode])
def test_what_a_careless_forward_changes_is_put_back_and_does_not_disturb(mode, plan_for):
    plan = plan_for(Careless(), {"a": ("lora", {"r": 2}, ["first", "last"])})
    with mode():
        inputs = {"x": torch.ones(2, 4), "cache": []}
    adapted = apply(Careless(), plan)
    random.seed(1)
    numpy.random.seed(1)
    states = random.getstate(), numpy.random.get_state()[1].tolist()
    with mode():
        found = verify(adapted, plan, inputs)
    assert (found.identity.status, found.identity.difference) == ("exact", 0)
    assert (found.gradients.reached, found.merging.merged) == (2, 2)
    assert (random.getstate(), numpy.random.get_state()[1].tolist()) == states
    assert (base_model(adapted).calls, base_model(adapted).seen.item()) == (0, 0)
    assert torch.equal(inputs["x"], torch.ones(2, 4))
    assert inputs["cache"] == []


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_the_model_is_left_as_found_whichever_call_fails(error, plan_for):
    class Failing(Careless):
        left = 0

        def forward(self, x, cache):
            Failing.left -= 1
            self.seen = self.seen + 1  # another buffer in its place
            if not Failing.left:
                raise error
            return super().forward(x, cache)

    plan = plan_for(Careless(), {"a": ("lora", {"r": 2}, ["first", "last"])})
    adapted = apply(Failing(), plan).train()
    before, buffer, rng = state(adapted), base_model(adapted).seen, torch.random.get_rng_state()
    calls = 0
    while Failing.left <= 0:
        calls += 1
        Failing.left = calls
        with pytest.raises((SurgeryError, KeyboardInterrupt)) if calls <= 6 else nullcontext():
            verify(adapted, plan, {"x": torch.ones(2, 4), "cache": []})
        assert state(adapted) == before
        assert torch.equal(torch.random.get_rng_state(), rng)
        assert (base_model(adapted).seen is buffer, buffer.item(), base_model(adapted).calls) == (True, 0, 0)
    assert calls == 7  # with adapters and without, two with gradients, two to compare what is merged


@pytest.mark.parametrize(
    ("left", "right", "expected"),
    [
        ([[1.0, 2.0]], [[1.0, 2.5]], 0.5),
        ([[1.0]], [[1.0, 1.0]], float("inf")),
        ([[float("nan")]], [[float("nan")]], 0.0),
        ([[float("nan")]], [[1.0]], float("inf")),
        ([[float("inf")]], [[float("inf")]], 0.0),
        ([], [], 0.0),
        ([[]], [[]], 0.0),
    ],
)
def test_differences_of_outputs(left, right, expected):
    assert difference([torch.tensor(v) for v in left], [torch.tensor(v) for v in right]) == expected


SPECS = Path(__file__).parents[2] / "specs" / "f5_tts"
METHODS = {
    "lora": ("lora { r = 16  alpha = 16 }", "lora { r = 16  alpha = 16 }"),
    "loha": ("loha { r = 8  alpha = 8 }", "loha { r = 8  alpha = 8 }"),
    "both": ("lora { r = 16  alpha = 32  dropout = 0.05 }", "loha { r = 8  alpha = 8 }"),
}
FULL = """\
surg 1
graph "{graph}"
model f5_tts.model:DiT {{
  dim = 1024  depth = 22  heads = 16  ff_mult = 2
  text_dim = 512  conv_layers = 4  text_num_embeds = 2545
}}
inputs {{ x = f32[1, 16, 100]  cond = f32[1, 16, 100]  text = i64[1, 8] < 2545  time = f32[1] }}
let blocks = path("transformer_blocks.*") expect 22
never role(modulation)
never init(zero)
target attention {{ select inside(blocks) & path("**.attn.{{to_q,to_k,to_v,to_out.0}}") expect 88  {attention} }}
target feed_forward {{ select inside(blocks) & role(feedforward_in, feedforward_out) expect 44  {feed_forward} }}
"""


@pytest.mark.heavy
@pytest.mark.parametrize("methods", METHODS)
def test_f5_tts_at_full_size_is_adapted_exactly_and_starts_as_the_base_model(methods, tmp_path):
    attention, feed_forward = METHODS[methods]
    file = tmp_path / "f5.surg"
    graph = SPECS / "f5_base.graph.json"
    file.write_text(FULL.format(graph=graph.as_posix(), attention=attention, feed_forward=feed_forward))
    spec = surgery.load(file)
    plan = surgery.plan(spec, surgery.read_graph(graph))
    assert len(plan.sites) == 132
    torch.manual_seed(0)
    model = pretrained(build_model(spec))  # other values than the fresh zeros, so that every adapter would show
    found = verify(apply(model, plan), plan, example_inputs(spec))
    assert (found.identity.status, found.identity.difference) == ("exact", 0.0)
    assert (found.sites, found.gradients.reached) == (132, 132)
    assert found.added == found.trainable == plan.totals.added
    assert found.memory.parameters == plan.totals.adapter_bytes


class ReadsItsConvolution(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv1d(4, 4, 3)

    def forward(self, x):
        return self.conv(x) / self.conv.stride[0]


def test_a_call_that_fails_on_the_adapted_model_is_a_diagnostic(plan_for):
    model = ReadsItsConvolution()
    plan = plan_for(model, {"a": ("lora", {"r": 2}, ["conv"])})
    adapted = apply(model, plan)
    with pytest.raises(SurgeryError) as caught:
        verify(adapted, plan, torch.randn(1, 4, 8))
    [found] = caught.value.diagnostics
    assert found.code == "E0510"
    assert "no attribute 'stride'" in found.message
