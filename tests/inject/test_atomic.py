"""Whatever stops an injection, the model is as before: the same objects in their places, the same bits in them."""

import gc
import os
import random
import signal
import sys
import threading
import time
import warnings

import peft
import pytest
import torch
from diffusers.configuration_utils import FrozenDict
from model_structure import traces
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.overrides import _len_torch_function_stack
from torch.utils._python_dispatch import _len_torch_dispatch_stack
from transformers import LlamaConfig, LlamaForCausalLM

from surgery.collector import paused_collector
from surgery.diagnostics import SurgeryError
from surgery.inject import apply, snapshot
from surgery.inject.surroundings import Surroundings


def llama():
    torch.manual_seed(0)
    model = LlamaForCausalLM(
        LlamaConfig(vocab_size=48, hidden_size=32, intermediate_size=40, num_hidden_layers=3, num_attention_heads=4)
    ).eval()
    model.model.layers[1].train()
    model.model.norm.requires_grad_(False)
    model.model.layers[0].register_forward_hook(lambda *_: None)
    model.settings = FrozenDict(dim=64)
    return model


def linears(model, ending):
    return [path for path, module in model.named_modules() if isinstance(module, nn.Linear) and path.endswith(ending)]


ATTENTION, FEED_FORWARD = ("q_proj", "k_proj", "v_proj", "o_proj"), ("gate_proj", "up_proj", "down_proj")
CASES = {
    "lora": {"a": ("lora", {"r": 2}, ATTENTION + FEED_FORWARD)},
    "two-methods": {"a": ("lora", {"r": 2}, ATTENTION), "b": ("loha", {"r": 2}, FEED_FORWARD)},
    "dora": {"a": ("lora", {"r": 2, "dora": True}, ATTENTION), "b": ("lora", {"r": 2}, FEED_FORWARD)},
    "pissa": {"a": ("lora", {"r": 2, "init": "pissa"}, ATTENTION)},
    "olora": {"a": ("lora", {"r": 2, "init": "olora"}, ATTENTION)},
}
ERRORS = {
    "error": RuntimeError("in the middle"),
    "out-of-memory": MemoryError(),
    "out-of-device-memory": torch.OutOfMemoryError("CUDA out of memory"),
    "interrupt": KeyboardInterrupt(),
}


def planned(plan_for, model, case):
    targets = {name: (method, given, linears(model, ends)) for name, (method, given, ends) in CASES[case].items()}
    return plan_for(model, targets, trained=["model.norm"])


def assert_stopped(model, plan, error):
    """Applying fails with this error, leaves no trace, and the model still takes the plan."""
    before = traces(model)
    with pytest.raises(type(error) if isinstance(error, KeyboardInterrupt) else SurgeryError) as caught:
        apply(model, plan)
    assert traces(model) == before
    if not isinstance(error, KeyboardInterrupt):
        assert {d.code for d in caught.value.diagnostics} == {"E0509"}
        assert type(error).__name__ in str(caught.value)
        assert ("memory" in str(caught.value.diagnostics[0].helps)) == isinstance(
            error, (MemoryError, torch.OutOfMemoryError)
        )
    return before


def failing_at(monkeypatch, owner, name, call, error):
    """Make the method raise at its `call`-th call (from 0); a negative one never. Counts the calls."""
    real, calls = getattr(owner, name), []

    def failing(*args, **kwargs):
        calls.append(args)
        if len(calls) - 1 == call:
            raise error
        return real(*args, **kwargs)

    monkeypatch.setattr(owner, name, failing)
    return calls


@pytest.mark.parametrize("error", ERRORS)
@pytest.mark.parametrize("at", ["first", "middle", "last"])
@pytest.mark.parametrize("case", CASES)
def test_peft_fails_while_it_makes_a_layer(case, at, error, plan_for, monkeypatch):
    place = (BaseTunerLayer, "_move_adapter_to_device_of_base_layer")
    with monkeypatch.context() as patch:
        calls = failing_at(patch, *place, -1, None)
        apply(model := llama(), planned(plan_for, llama(), case))
    model = llama()
    plan = planned(plan_for, model, case)
    with monkeypatch.context() as patch:
        failing_at(patch, *place, {"first": 0, "middle": len(calls) // 2, "last": len(calls) - 1}[at], ERRORS[error])
        assert_stopped(model, plan, ERRORS[error])
    apply(model, plan)


@pytest.mark.parametrize("error", ERRORS)
@pytest.mark.parametrize("at", ["first", "middle", "last"])
@pytest.mark.parametrize("case", ["lora", "two-methods"])
def test_drawing_the_start_values_fails_at_a_site(case, at, error, plan_for, monkeypatch):
    model = llama()
    plan = planned(plan_for, model, case)
    sites = sum(site.method == "lora" for site in plan.sites)
    call = {"first": 0, "middle": sites // 2, "last": sites - 1}[at]  # the last ones are those of copies
    with monkeypatch.context() as patch:
        calls = failing_at(patch, peft.tuners.lora.LoraLayer, "reset_lora_parameters", call, ERRORS[error])
        assert_stopped(model, plan, ERRORS[error])
    assert len(calls) == call + 1
    apply(model, plan)


@pytest.mark.parametrize("case", CASES)
def test_the_comparison_at_the_end_fails(case, plan_for):
    model = llama()
    plan = planned(plan_for, model, case)
    before = traces(model)
    totals = plan.totals.model_copy(update={"trainable": 7})
    with pytest.raises(SurgeryError, match="trainable, planned 7"):
        apply(model, plan.model_copy(update={"totals": totals}))
    assert traces(model) == before


def test_values_that_a_method_writes_are_put_back_in_place(plan_for):
    """Into the very storage, which a tied weight or a view may share."""
    model = llama()
    plan = planned(plan_for, model, "olora")
    weight = model.get_submodule(plan.sites[0].path).weight
    view, value = weight.data.view(-1), weight.detach().clone()
    with pytest.raises(SurgeryError):
        apply(model, plan.model_copy(update={"totals": plan.totals.model_copy(update={"added": 7})}))
    assert torch.equal(view, value.view(-1))
    apply(model, plan)
    assert not torch.equal(view, value.view(-1))


# --- interrupted -------------------------------------------------------------------------------


@pytest.mark.heavy
@pytest.mark.parametrize("case", ["lora", "two-methods", "olora"])
def test_an_interrupt_before_any_line_leaves_no_trace(case, plan_for):
    """KeyboardInterrupt at lines drawn by chance of all that run while applying, this package's and PEFT's."""
    plan = planned(plan_for, llama(), case)
    for _ in range(2):  # the first time, PEFT and PyTorch fill caches
        model = llama()
        total = lines_of(lambda: apply(model, plan), None)  # noqa: B023
    model = llama()
    before = traces(model)
    draw, surroundings = random.Random(case), process_state()
    for line in sorted(draw.randrange(total - 10) for _ in range(40)):
        with pytest.raises(KeyboardInterrupt):
            lines_of(lambda: apply(model, plan), line)
        assert traces(model) == before, line
        assert process_state() == surroundings, line
    apply(model, plan)


def process_state():
    """What an interrupted context manager may leave behind for the rest of the process."""
    modes = _len_torch_function_stack(), _len_torch_dispatch_stack()
    patched = nn.Module.register_parameter, nn.Module.register_buffer
    gradients = torch.is_grad_enabled(), torch.is_inference_mode_enabled()
    numbers = torch.get_rng_state().tolist()
    return gradients, modes, gc.isenabled(), list(warnings.filters), patched, numbers


def test_an_interrupt_on_the_way_into_a_block_does_not_stay_for_the_process(plan_for, monkeypatch):
    with FakeTensorMode():
        model = llama()
    plan = planned(plan_for, model, "lora")
    surroundings = process_state()
    enter = FakeTensorMode.__enter__

    def interrupted(self):
        enter(self)
        raise KeyboardInterrupt

    monkeypatch.setattr(FakeTensorMode, "__enter__", interrupted)
    with pytest.raises(KeyboardInterrupt):
        apply(model, plan)
    monkeypatch.undo()
    assert process_state() == surroundings


def test_all_that_is_left_open_is_closed():
    before, surroundings = process_state(), Surroundings()
    for block in (torch.no_grad(), torch.device("meta"), FakeTensorMode()):
        block.__enter__()
    gc.disable()
    warnings.simplefilter("error")
    nn.Module.register_parameter = nn.Module.register_buffer
    torch.default_generator.manual_seed(3)
    surroundings.restore()
    assert process_state() == before
    assert torch.ones(1).sum().item() == 1  # neither fake nor on meta


def lines_of(action, stop):
    """How many lines run in an action; KeyboardInterrupt comes before the line of number `stop`."""
    count = 0

    def trace(frame, event, _):
        nonlocal count
        if event == "line" and "contextlib" not in frame.f_code.co_filename:
            count += 1
            if count - 1 == stop:
                sys.settrace(None)
                raise KeyboardInterrupt
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        action()
    finally:
        sys.settrace(before)
    return count


@pytest.mark.heavy
def test_a_real_signal_at_any_time_leaves_no_trace(plan_for):
    model = llama()
    plan = planned(plan_for, model, "two-methods")
    start = time.perf_counter()
    apply(llama(), plan)
    took = time.perf_counter() - start
    before = traces(model)
    draw, interrupted, surroundings = random.Random(1), 0, process_state()
    for _ in range(25):
        delay = draw.uniform(0, 0.8 * took)
        sender = threading.Thread(target=lambda: (time.sleep(delay), os.kill(os.getpid(), signal.SIGINT)))  # noqa: B023
        adapted = None
        try:
            sender.start()
            adapted = apply(model, plan)
            sender.join()
            time.sleep(1)
        except KeyboardInterrupt:
            sender.join()
        if adapted is None:
            interrupted += 1
            assert traces(model) == before
            assert process_state() == surroundings
        else:  # it was faster than the signal
            model = llama()
            before, surroundings = traces(model), process_state()
    assert interrupted >= 5


def test_a_second_interrupt_waits_until_the_model_is_as_before(plan_for, monkeypatch):
    model = llama()
    plan = planned(plan_for, model, "lora")
    before = traces(model)
    real = snapshot._Attributes.restore

    def interrupted(self):
        if not hits:
            hits.append(signal.raise_signal(signal.SIGINT))
        real(self)

    hits = []
    monkeypatch.setattr(snapshot._Attributes, "restore", interrupted)
    totals = plan.totals.model_copy(update={"added": 7})
    with pytest.raises(KeyboardInterrupt):
        apply(model, plan.model_copy(update={"totals": totals}))
    assert hits
    assert traces(model) == before
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_failure_in_another_thread_is_undone_as_well(plan_for):
    model = llama()
    plan = planned(plan_for, model, "lora")
    wrong = plan.model_copy(update={"totals": plan.totals.model_copy(update={"added": 7})})
    before, caught = traces(model), []

    def run():
        try:
            apply(model, wrong)
        except SurgeryError as error:
            caught.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert caught
    assert traces(model) == before


@pytest.mark.parametrize("case", ["lora", "pissa"])
def test_a_model_made_in_inference_mode_is_as_before_too(case, plan_for):
    with torch.inference_mode():
        model = llama()
    plan = planned(plan_for, model, case)
    wrong = plan.model_copy(update={"totals": plan.totals.model_copy(update={"added": 7})})
    names = [name for name, _ in model.named_modules()]
    before = {name: (id(p), p.requires_grad, p.detach().clone()) for name, p in model.named_parameters()}
    with pytest.raises(SurgeryError, match="its totals say 7"):
        apply(model, wrong)
    assert [name for name, _ in model.named_modules()] == names
    for name, parameter in model.named_parameters():
        identity, requires_grad, value = before[name]
        assert (id(parameter), parameter.requires_grad) == (identity, requires_grad)
        assert torch.equal(parameter, value)


def test_no_memory_on_the_cpu_is_told_from_other_errors_of_pytorch(plan_for, monkeypatch):
    model = llama()
    before = traces(model)
    monkeypatch.setattr(BaseTunerLayer, "_move_adapter_to_device_of_base_layer", lambda *_: torch.empty(1 << 60))
    with pytest.raises(SurgeryError, match="give the process more memory"):
        apply(model, planned(plan_for, model, "lora"))
    assert traces(model) == before


def test_an_interrupt_just_after_the_collector_is_paused_is_its_end():
    pause = paused_collector()
    lines = lines_of(pause.__enter__, None)
    pause.__exit__(None, None, None)
    for line in range(lines):
        with pytest.raises(KeyboardInterrupt):
            lines_of(paused_collector().__enter__, line)
        assert gc.isenabled(), line
