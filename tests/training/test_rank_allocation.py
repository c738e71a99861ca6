"""AdaLoRA in the loop: ranks are dropped as PEFT does it, and a resumed run is the uninterrupted one to the bit."""

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from torch import nn

import surgery
from surgery.diagnostics import SurgeryError
from surgery.inject import apply, base_model
from surgery.training import TrainConfig, train
from surgery.training.schedule import learning_rate

pytestmark = pytest.mark.heavy

STEPS = 12
SPEC = """\
surg 1
target attention {
  select kind(Linear) & path("**.attention.self.{query,value}")
  adalora { init_r = 6  target_r = 2  total_step = 12  tinit = 2  tfinal = 3  deltaT = 2  alpha = 12 }
}
train { select path("encoder.layer.1.output.LayerNorm") }
"""


@pytest.fixture
def adalora(graph, tmp_path):
    """`adalora(old, new)`: the plan of SPEC with a part of its text replaced."""

    def plan(old="", new=""):
        file = tmp_path / "adalora.surg"
        file.write_text(SPEC.replace(old, new))
        made = surgery.plan(surgery.load(file), graph)
        assert made.applyable, made.diagnostics
        return made

    return plan


def config(out, **settings):
    quick = {"steps": STEPS, "batch_size": 8, "save_every": 4, "keep_last": None, "learning_rate": 0.02}
    return TrainConfig(out=out, **{**quick, "tensorboard": False, **settings})


def ranks(model):
    """How many singular values of each site are not zero."""
    return [int(e["default"].count_nonzero()) for n, e in base_model(model).named_modules() if n.endswith("lora_E")]


def test_ranks_are_dropped_to_the_planned_average(tiny, adalora, tmp_path):
    found = []

    class Counts(tiny.Unmask):
        def evaluate(self, model):
            found.append(sum(ranks(model)))
            return {}

    result = train(tiny.build(), adalora(), Counts(), config(tmp_path / "run", evaluate_every=1))
    assert found[:3] == [24, 24, 24]  # two steps of `tinit`, and one that `deltaT` passes over
    # Between two droppings the optimiser gives dropped ranks values again; the final ranks are kept at every step.
    dropped = found[3::2]
    assert dropped[0] > dropped[1] > 8 == dropped[-1]
    assert found[8:] == [8, 8, 8, 8]  # target_r = 2 on average, from `tfinal` steps before the end
    assert len(set(ranks(result.model))) > 1  # more for some sites than for others


def test_every_step_is_what_pefts_documentation_does(tiny, adalora, tmp_path):
    """Its loop, with PEFT's penalty, on the same batch of all samples: the same ranks and losses."""
    plan, task = adalora(), tiny.Unmask(masking=False, samples=8)
    settings = config(tmp_path / "run", log_every=1)
    result = train(tiny.build(dropout=0.0), plan, task, settings)
    base = tiny.build(dropout=0.0)
    torch.manual_seed(settings.seed)
    model = apply(base, plan).train()
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=0.02, betas=settings.betas, weight_decay=settings.weight_decay)
    batch, losses = task.collate(task.samples), []
    for step in range(1, STEPS + 1):
        norms = [
            torch.norm(product - torch.eye(len(product)), p="fro")
            for name, p in model.named_parameters()
            for product in ([p @ p.T] if "lora_A" in name else [p.T @ p] if "lora_B" in name else [])
        ]
        loss = task.loss(model, batch)["loss"] + 0.5 * sum(norms) / len(norms)
        losses.append(loss.item())
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, settings.max_grad_norm)
        optimizer.param_groups[0]["lr"] = learning_rate(settings, step - 1, STEPS)
        optimizer.step()
        model.base_model.update_and_allocate(step)
        optimizer.zero_grad()
    assert ranks(model) == ranks(result.model)
    assert list(result.losses.values()) == pytest.approx(losses, rel=1e-4)


def test_a_resumed_run_is_the_uninterrupted_one(tiny, adalora, tmp_path):
    """Cut while ranks are dropped, and when they are final."""
    plan = adalora()
    train(tiny.build(), plan, tiny.Unmask(), config(tmp_path / "whole", save_every=5))
    for at in (5, 10):
        resume = tmp_path / "whole" / f"state_{at}"
        train(tiny.build(), plan, tiny.Unmask(), config(tmp_path / f"from_{at}", save_every=5, resume=resume))
        for name in ("adapter_12/adapter_model.safetensors", "state_12/state.safetensors"):
            whole, parts = load_file(tmp_path / "whole" / name), load_file(tmp_path / f"from_{at}" / name)
            assert whole.keys() == parts.keys()
            assert all(torch.equal(tensor, parts[key]) for key, tensor in whole.items())


def test_the_state_holds_the_importances_and_later_the_ranks(tiny, adalora, tmp_path):
    train(tiny.build(), adalora(), tiny.Unmask(), config(tmp_path / "run"))
    kinds = {
        step: {
            key.split(".")[1] for key in load_file(tmp_path / f"run/state_{step}/state.safetensors") if "ranks." in key
        }
        for step in (4, 12)
    }
    assert kinds == {4: {"ipt", "exp_avg_ipt", "exp_avg_unc", "pattern"}, 12: {"pattern"}}


def test_plain_peft_loads_what_was_saved(tiny, adalora, tmp_path):
    result = train(tiny.build(), adalora(), tiny.Unmask(), config(tmp_path / "run"))
    loaded = PeftModel.from_pretrained(tiny.build(), str(result.adapter)).eval()
    _, kwargs = tiny.example()
    with torch.no_grad():
        expected = result.model.eval()(**kwargs).last_hidden_state
        assert torch.equal(loaded(**kwargs).last_hidden_state, expected)
    assert ranks(loaded) == ranks(result.model)


def test_a_schedule_for_another_length_is_refused_before_anything_is_written(tiny, adalora, tmp_path):
    with pytest.raises(SurgeryError) as error:
        train(tiny.build(), adalora(), tiny.Unmask(), config(tmp_path / "run", steps=20))
    [found] = error.value.diagnostics
    assert found.code == "E0515"
    assert found.message == "AdaLoRA's ranks are planned for 12 steps, and the run has 20"
    assert found.place.endswith("adalora.surg:2")
    assert "`total_step = 20`" in found.helps[0]
    assert not (tmp_path / "run").exists()
