"""A compiled model: after `prepare`, nothing that the runtime does compiles anything again."""

import shutil
import warnings

import pytest
import torch
from diffusers import FluxTransformer2DModel
from f5_tts.model import DiT
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import nn
from torch._dynamo.testing import CompileCounter

import surgery

RANKS = (4, 8, 16)
CLOSE = {"rtol": 1e-4, "atol": 1e-4}  # of outputs around 1 to 10, by another order of summing


def flux():
    torch.manual_seed(0)
    return FluxTransformer2DModel(
        patch_size=1,
        in_channels=4,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=32,
        pooled_projection_dim=32,
        axes_dims_rope=(4, 4, 8),
    ).eval()


def flux_inputs():
    generator = torch.Generator().manual_seed(1)
    return {
        "hidden_states": torch.randn(1, 9, 4, generator=generator),
        "encoder_hidden_states": torch.randn(1, 5, 32, generator=generator),
        "pooled_projections": torch.randn(1, 32, generator=generator),
        "timestep": torch.tensor([0.5]),
        "img_ids": torch.zeros(9, 3),
        "txt_ids": torch.zeros(5, 3),
        "return_dict": False,
    }


def dit():
    """F5-TTS's network; what it starts as zeros is random, so that adapters reach the output."""
    torch.manual_seed(0)
    model = DiT(dim=64, depth=2, heads=2, ff_mult=2, text_dim=32, conv_layers=1, text_num_embeds=30)
    for module in model.modules():
        if isinstance(module, nn.Linear) and not module.weight.any():
            nn.init.normal_(module.weight, std=0.1)
    return model.eval()


def dit_inputs():
    generator = torch.Generator().manual_seed(1)
    x, cond = (torch.randn(2, 12, 100, generator=generator) for _ in range(2))
    return {"x": x, "cond": cond, "text": torch.arange(12).reshape(2, 6), "time": torch.tensor([0.2, 0.7])}


@pytest.fixture(autouse=True)
def _fresh_compiler():
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


@pytest.fixture
def counted():
    """A backend that counts what it compiles, for a compiler to which compiling again is an error from now on."""
    counter = CompileCounter()

    def forbid():
        torch._dynamo.config.error_on_recompile = True
        return counter.frame_count

    with torch._dynamo.config.patch(error_on_recompile=False):
        counter.forbid = forbid
        yield counter


def swap_twenty_times(adapters, methods, select, compiled_by, *, before=True):
    """Prepare, compile, load three adapters of three ranks, and swap twenty times, with everything else in between."""
    saved = {
        f"rank {rank}": adapters.saved(f"rank{rank}", adapters.plan(method, select), seed=rank)
        for rank, method in zip(RANKS, methods, strict=True)
    }
    first = saved["rank 4"]
    model = adapters.adapted(first.plan).eval()
    flags = [parameter.requires_grad for parameter in model.parameters()]
    if before:
        runtime = surgery.Runtime(model, first.plan)
        runtime.prepare(16)
        compiled = torch.compile(model, backend=compiled_by)
    else:
        compiled = torch.compile(model, backend=compiled_by)
        runtime = surgery.Runtime(compiled, first.plan)
        runtime.prepare(16)
    torch.testing.assert_close(adapters.outputs(compiled), adapters.base, **CLOSE)
    frames = compiled_by.forbid() if isinstance(compiled_by, CompileCounter) else None
    for name, one in saved.items():
        runtime.load(name, one.folder, plan=one.plan)
    for turn in range(20):
        name = f"rank {RANKS[turn % 3]}"
        change = runtime.switch(name)
        assert (change.not_loaded, change.silent) == ((), ())
        torch.testing.assert_close(adapters.outputs(compiled), saved[name].expected, **CLOSE)
        if turn % 4 == 0:
            runtime.disable()
            torch.testing.assert_close(adapters.outputs(compiled), adapters.base, **CLOSE)
            runtime.enable()
            runtime.scale(0.5)
            half = adapters.outputs(compiled)
            assert not torch.allclose(half, saved[name].expected, **CLOSE)
            runtime.scale(1)
            torch.testing.assert_close(adapters.outputs(compiled), saved[name].expected, **CLOSE)
    runtime.replace("rank 16", saved["rank 8"].folder)
    runtime.switch("rank 16")
    torch.testing.assert_close(adapters.outputs(compiled), saved["rank 8"].expected, **CLOSE)
    assert [parameter.requires_grad for parameter in model.parameters()] == flags
    if frames is not None:
        assert compiled_by.frame_count == frames > 0
    return runtime, compiled, saved


LORA = ("lora { r = 4  alpha = 8 }", "lora { r = 8  alpha = 4  rslora = true }", "lora { r = 16  alpha = 16 }")


@pytest.mark.heavy
@pytest.mark.parametrize("before", [True, False], ids=["prepared, then compiled", "compiled, then prepared"])
def test_a_llama(adapters, counted, before):
    select = 'path("model.layers.*.{self_attn,mlp}.*_proj", "model.embed_tokens")'
    runtime, compiled, saved = swap_twenty_times(adapters, LORA, select, counted, before=before)
    runtime.load("4", saved["rank 4"].folder)
    runtime.combine("sum", {"4": 0.5, "rank 8": 0.25})
    runtime.switch("sum")
    summed = adapters.outputs(compiled)
    assert counted.frame_count == 1

    torch.testing.assert_close(summed, adapters.outputs(runtime._model), **CLOSE)


@pytest.mark.heavy
def test_the_network_of_f5_tts(adapters_of, counted):
    select = 'path("transformer_blocks.*.attn.to_{q,k,v}", "transformer_blocks.*.ff.ff.2", "text_embed.text_embed")'
    swap_twenty_times(adapters_of(dit, dit_inputs()), LORA, select, counted)


@pytest.mark.heavy
def test_a_diffusion_transformer(adapters_of, counted):
    select = 'path("transformer_blocks.*.attn.to_{q,k,v}", "single_transformer_blocks.*.proj_{mlp,out}")'
    swap_twenty_times(adapters_of(flux, flux_inputs()), LORA, select, counted)


@pytest.mark.heavy
def test_loha(adapters, counted):
    methods = [f"loha {{ r = {rank}  alpha = {alpha} }}" for rank, alpha in zip(RANKS, (8, 4, 16), strict=True)]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="To copy construct from a tensor")  # PEFT's LoHa, of its scale
        swap_twenty_times(adapters, methods, 'path("model.layers.*.mlp.*_proj")', counted)


@pytest.mark.heavy
def test_lokr(adapters, counted):
    """At ranks below half of a factor's width, where PEFT stores it in two parts."""
    methods = [
        f"lokr {{ r = {rank}  alpha = {alpha}  decompose_factor = 2 }}" for rank, alpha in ((2, 8), (4, 4), (7, 7))
    ]
    swap_twenty_times(adapters, methods, 'path("model.layers.*.mlp.*_proj")', counted)


@pytest.mark.heavy
def test_blocks_that_are_compiled_by_themselves(adapters, counted):
    plan = adapters.plan(LORA[0])
    saved = adapters.saved("one", plan)
    model = adapters.adapted(plan).eval()
    layers = model.base_model.model.model.layers
    for index, layer in enumerate(layers):
        layers[index] = torch.compile(layer, backend=counted)
    runtime = surgery.Runtime(model, plan)
    runtime.prepare(16)
    adapters.outputs(model)
    frames = counted.forbid()
    runtime.load("one", saved.folder)
    runtime.switch("one")
    torch.testing.assert_close(adapters.outputs(model), saved.expected, **CLOSE)
    runtime.disable()
    torch.testing.assert_close(adapters.outputs(model), adapters.base, **CLOSE)
    assert counted.frame_count == frames


@pytest.mark.heavy
def test_what_the_proof_sees(adapters, counted):
    """PEFT's own switch compiles again, and so does a swap to another rank of a model that is not prepared."""
    plan = adapters.plan(LORA[0])
    model = adapters.adapted(plan).eval()
    compiled = torch.compile(model, backend=counted)
    adapters.outputs(compiled)
    counted.forbid()
    for layer in model.modules():
        if isinstance(layer, BaseTunerLayer):
            layer._disable_adapters = True
    with pytest.raises(torch._dynamo.exc.RecompileError):
        adapters.outputs(compiled)


@pytest.mark.heavy
@pytest.mark.skipif(shutil.which("g++") is None and shutil.which("clang++") is None, reason="no C++ compiler")
def test_code_of_the_inductor(adapters):
    with torch._dynamo.config.patch(error_on_recompile=True):
        swap_twenty_times(adapters, LORA, 'path("model.layers.0.self_attn.{q,v}_proj")', "inductor")
