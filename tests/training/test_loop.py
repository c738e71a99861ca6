import math

import pytest
import torch
from safetensors.torch import load_file

import surgery
from surgery.diagnostics import SurgeryError
from surgery.training import TrainConfig, train
from surgery.training.session import set_train_mode


def config(out, **settings):
    quick = {"steps": 6, "batch_size": 4, "gradient_accumulation": 2, "learning_rate": 1e-2, "tensorboard": False}
    return TrainConfig(out=out, **{**quick, **settings})


def saved(adapter):
    return {path.relative_to(adapter): path.read_bytes() for path in adapter.rglob("*.safetensors")}


def tensors(adapter):
    files = sorted(adapter.rglob("*.safetensors"))
    return {f"{file.parent.name}/{name}": tensor for file in files for name, tensor in load_file(file).items()}


def problem(code, *arguments):
    with pytest.raises(SurgeryError) as caught:
        train(*arguments)
    [diagnostic] = caught.value.diagnostics
    assert diagnostic.code == code
    assert diagnostic.helps
    return diagnostic


class Failing(Exception):
    """Stands for whatever stops a run."""


def failing(task, at):
    """The task, failing at the forward pass number `at`."""
    loss, calls = task.loss, []

    def fail(model, batch):
        calls.append(1)
        if len(calls) == at:
            raise Failing
        return loss(model, batch)

    task.loss = fail
    return task


def test_a_run_learns_and_leaves_the_base_model_alone(tiny, plan, tmp_path):
    model = tiny.build()
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    result = train(model, plan, tiny.Unmask(), config(tmp_path, steps=40, log_every=5, save_every=20))
    assert result.step == 40
    losses = list(result.losses.values())
    assert losses[-1] < losses[0] - 0.05
    assert set(result.metrics) == {40}
    assert result.adapter == tmp_path / "adapter_40"
    assert f"step 40, loss {losses[-1]:.4g}, accuracy " in result.summary
    after = {
        name.replace(".base_layer.", "."): p for name, p in surgery.inject.base_model(result.model).named_parameters()
    }
    frozen = [name for name in before if "encoder.layer.1.output.LayerNorm" not in name]
    assert len(frozen) == len(before) - 2
    assert all(torch.equal(after[name], before[name]) for name in frozen)
    halfway, end = tensors(tmp_path / "adapter_20"), tensors(result.adapter)
    assert not any(torch.equal(halfway[name], end[name]) for name in end)


def test_the_saved_adapters_are_plain_peft_directories(tiny, plan, tmp_path):
    from peft import PeftModel

    result = train(tiny.build(), plan, tiny.Unmask(), config(tmp_path))
    names = [adapter.name for adapter in plan.adapters]
    plain = PeftModel.from_pretrained(tiny.build(), result.adapter / names[0], adapter_name=names[0])
    for name in names[1:]:
        plain.load_adapter(result.adapter / name, adapter_name=name)
    plain.base_model.set_adapter(names)
    ids = tiny.example()[1]["input_ids"]
    with torch.no_grad():
        expected, found = (m.eval()(input_ids=ids).last_hidden_state for m in (result.model, plain))
    assert torch.equal(expected, found)


def test_accumulation_gives_the_gradient_of_the_whole_batch_also_at_the_end_of_an_epoch(tiny, make_plan, tmp_path):
    # 22 samples: steps of 8, 8 and 6, in forward passes of 4, 4 | 4, 4 | 4, 2.
    outcomes = []
    for size, accumulation in ((8, 1), (4, 2)):
        settings = config(
            tmp_path / str(size), steps=None, epochs=2, batch_size=size, gradient_accumulation=accumulation, log_every=1
        )
        outcomes.append(train(tiny.build(dropout=0.0), make_plan(dropout=0.0), tiny.Unmask(masking=False), settings))
    whole, parts = outcomes
    assert whole.step == parts.step == 6
    assert list(parts.losses.values()) == pytest.approx(list(whole.losses.values()), rel=1e-4)
    for name, tensor in tensors(whole.adapter).items():
        torch.testing.assert_close(tensors(parts.adapter)[name], tensor, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("workers", [(0, 0), (2, 2), (0, 2)])
def test_a_stopped_run_goes_on_to_the_same_adapter(tiny, plan, tmp_path, workers):
    settings = {"steps": 9, "warmup_steps": 3, "schedule": "cosine", "save_every": 3}
    whole = train(tiny.build(), plan, tiny.Unmask(), config(tmp_path / "whole", **settings))
    with pytest.raises(Failing):
        train(
            tiny.build(),
            plan,
            failing(tiny.Unmask(), 9),
            config(tmp_path / "parts", num_workers=workers[0], **settings),
        )
    rest = config(tmp_path / "parts", resume="latest", num_workers=workers[1], **settings)
    result = train(tiny.build(), plan, tiny.Unmask(), rest)
    assert min(result.losses) > 3
    assert saved(result.adapter) == saved(whole.adapter)
    assert result.metrics == whole.metrics


def test_neither_evaluating_nor_checkpointing_nor_saving_changes_the_outcome(tiny, plan, tmp_path):
    plain = plan.model_copy(update={"checkpointed": []})
    results = [
        train(tiny.build(), plain, tiny.Unmask(), config(tmp_path / "plain")),
        train(
            tiny.build(), plan, tiny.Unmask(), config(tmp_path / "busy", evaluate_every=1, save_every=1, log_every=1)
        ),
    ]
    assert len(results[1].metrics) == 6
    assert saved(results[0].adapter) == saved(results[1].adapter)


def test_an_adapted_model_is_trained_as_it_is(tiny, plan, tmp_path):
    adapted = surgery.apply(tiny.build(), plan)
    result = train(adapted, plan, tiny.Unmask(), config(tmp_path))
    assert result.model is adapted
    assert not {"forward", "_original_forward"} & adapted.__dict__.keys()


def test_an_adapted_model_that_is_not_as_planned_is_refused(tiny, plan, tmp_path):
    adapted = surgery.apply(tiny.build(), plan)
    next(adapted.parameters()).requires_grad_(True)
    problem("E0509", adapted, plan, tiny.Unmask(), config(tmp_path / "run"))
    assert not (tmp_path / "run").exists()


def test_what_trains_is_checked_at_every_save(tiny, plan, tmp_path):
    class Meddling(tiny.Unmask):
        def evaluate(self, model):
            model.base_model.set_adapter([plan.adapters[0].name])  # freezes the others
            return {}

    settings = config(tmp_path, evaluate_every=1, save_every=2)
    problem("E0509", tiny.build(), plan, Meddling(), settings)
    assert not list(tmp_path.glob("state_*"))


def test_bf16_trains_adapters_that_stay_fp32(tiny, plan, tmp_path):
    plain = train(tiny.build(), plan, tiny.Unmask(), config(tmp_path / "no"))
    result = train(tiny.build(), plan, tiny.Unmask(), config(tmp_path / "bf16", mixed_precision="bf16"))
    assert {tensor.dtype for tensor in tensors(result.adapter).values()} == {torch.float32}
    assert saved(result.adapter) != saved(plain.adapter)
    assert next(iter(result.losses.values())) == pytest.approx(next(iter(plain.losses.values())), rel=0.02)


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU trains in fp16")
def test_fp16_needs_a_gpu(tiny, plan, tmp_path):
    model = tiny.build()
    problem("E0515", model, plan, tiny.Unmask(), config(tmp_path / "run", mixed_precision="fp16"))
    assert not (tmp_path / "run").exists()
    train(model, plan, tiny.Unmask(), config(tmp_path / "run"))  # the process can still train otherwise


def test_a_loss_that_is_not_finite_stops_the_run_and_names_the_step(tiny, plan, tmp_path):
    class Bad(tiny.Unmask):
        calls = 0

        def loss(self, model, batch):
            self.calls += 1
            return super().loss(model, batch)["loss"] * (math.nan if self.calls == 6 else 1.0)

    found = problem("E0516", tiny.build(), plan, Bad(), config(tmp_path, save_every=2))
    assert "step 3" in found.message
    assert sorted(path.name for path in tmp_path.iterdir()) == ["adapter_2", "plan.json", "state_2"]
    train(tiny.build(), plan, tiny.Unmask(), config(tmp_path, resume="latest"))


@pytest.mark.parametrize(
    ("loss", "says"),
    [
        (lambda model, batch: torch.tensor(1.0), "no trainable tensor"),
        (lambda model, batch: model(input_ids=batch["input_ids"]).last_hidden_state, "shape"),
        (lambda model, batch: {"cross_entropy": 1.0}, "None"),
    ],
)
def test_a_loss_that_cannot_be_trained_on(tiny, plan, tmp_path, loss, says):
    task = tiny.Unmask()
    task.loss = loss
    assert says in problem("E0516", tiny.build(), plan, task, config(tmp_path)).message


def test_what_is_logged_beside_the_loss_are_numbers(tiny, plan, tmp_path):
    task = tiny.Unmask()
    loss = task.loss
    task.loss = lambda model, batch: loss(model, batch) | {"share": 0.5}
    assert train(tiny.build(), plan, task, config(tmp_path / "number")).step == 6
    task.loss = lambda model, batch: loss(model, batch) | {"logits": torch.ones(3)}
    assert "`logits` is no number" in problem("E0516", tiny.build(), plan, task, config(tmp_path / "many")).message


@pytest.mark.parametrize("metrics", [None, 0.5, {"accuracy": torch.ones(2)}, {"accuracy": None}])
def test_an_evaluation_gives_numbers_by_name(tiny, plan, tmp_path, metrics):
    task = tiny.Unmask()
    task.evaluate = lambda model: metrics
    found = problem("E0516", tiny.build(), plan, task, config(tmp_path, save_every=2, evaluate_every=2))
    assert "step 2: the task's `evaluate` gave" in found.message
    assert (tmp_path / "state_2").is_dir()


@pytest.mark.parametrize("data", [[], iter([1]), None])
def test_data_that_cannot_be_trained_on(tiny, plan, tmp_path, data):
    task = tiny.Unmask()
    task.train_dataset = lambda: data
    problem("E0515", tiny.build(), plan, task, config(tmp_path / "run"))
    assert not (tmp_path / "run").exists()


def test_a_container_cannot_be_checkpointed_and_the_model_stays_as_it_was(tiny, plan, tmp_path):
    model = tiny.build()
    names = [name for name, _ in model.named_modules()]
    bad = plan.model_copy(update={"checkpointed": ["encoder.layer"]})
    assert "ModuleList" in problem("E0515", model, bad, tiny.Unmask(), config(tmp_path / "run")).message
    assert [name for name, _ in model.named_modules()] == names
    assert not (tmp_path / "run").exists()


def test_tensorboard_shows_every_step_once_although_the_run_was_stopped(tiny, plan, tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    settings = {"log_every": 1, "evaluate_every": 2, "save_every": 2, "tensorboard": True}
    with pytest.raises(Failing):
        train(tiny.build(), plan, failing(tiny.Unmask(), 10), config(tmp_path, **settings))
    result = train(tiny.build(), plan, tiny.Unmask(), config(tmp_path, resume="latest", **settings))
    events = EventAccumulator(str(tmp_path / "logs"))
    events.Reload()
    tags = set(events.Tags()["scalars"])
    assert tags >= {
        "train/loss",
        "train/spread",
        "train/learning_rate",
        "train/gradient_norm",
        "train/samples_per_second",
        "memory/peak_mib",
        "evaluation/accuracy",
    }
    losses = {event.step: event.value for event in events.Scalars("train/loss")}
    assert [event.step for event in events.Scalars("train/loss")] == [1, 2, 3, 4, 5, 6]
    assert all(losses[step] == pytest.approx(loss) for step, loss in result.losses.items())


def test_the_progress_bar_is_shown_when_asked_for(tiny, plan, tmp_path, capfd):
    train(tiny.build(), plan, tiny.Unmask(), config(tmp_path / "a"))
    assert "step" not in capfd.readouterr().err
    train(tiny.build(), plan, tiny.Unmask(), config(tmp_path / "b", progress=True))
    assert "6/6" in capfd.readouterr().err


def test_frozen_batch_norms_keep_their_statistics():
    model = torch.nn.Sequential(torch.nn.BatchNorm1d(4).requires_grad_(False), torch.nn.BatchNorm1d(4))
    set_train_mode(model)
    model(torch.randn(8, 4))
    assert model[0].running_mean.abs().sum() == 0
    assert model[1].running_mean.abs().sum() > 0


def test_two_methods_in_one_model_are_trained_and_resumed(tiny, plan_of, tmp_path):
    plan = plan_of("lora { r = 2  alpha = 2 }", "loha { r = 2  alpha = 2  rank_dropout = 0.2 }")
    assert {site.method for site in plan.sites} == {"lora", "loha"}
    whole = train(tiny.build(), plan, tiny.Unmask(), config(tmp_path / "whole", save_every=2))
    begun = config(tmp_path / "parts", save_every=2)
    with pytest.raises(Failing):
        train(tiny.build(), plan, failing(tiny.Unmask(), 7), begun)
    result = train(tiny.build(), plan, tiny.Unmask(), config(tmp_path / "parts", resume="latest"))
    assert saved(result.adapter) == saved(whole.adapter)
