import shutil

import pytest
from safetensors.torch import load_file, save_file

from surgery.diagnostics import SurgeryError
from surgery.training import TrainConfig, train


def config(out, **settings):
    quick = {"steps": 4, "batch_size": 8, "save_every": 2, "tensorboard": False}
    return TrainConfig(out=out, **{**quick, **settings})


@pytest.fixture(scope="module")
def finished(tiny, plan, tmp_path_factory):
    """The folder of a run of 4 steps, saved at 2 and 4."""
    folder = tmp_path_factory.mktemp("finished") / "run"
    train(tiny.build(), plan, tiny.Unmask(), config(folder))
    return folder


@pytest.fixture
def run(finished, tmp_path):
    return shutil.copytree(finished, tmp_path / "run")


def contents(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def refused(tiny, plan, run):
    """`refused(code, ...)`: training is refused with that code and nothing in the run's folder is changed."""

    def check(code, settings, *, plan=plan, task=None):
        before = contents(run)
        with pytest.raises(SurgeryError) as caught:
            train(tiny.build(), plan, task or tiny.Unmask(), settings)
        [diagnostic] = caught.value.diagnostics
        assert diagnostic.code == code
        assert diagnostic.helps
        assert contents(run) == before
        return diagnostic

    return check


def test_a_new_run_does_not_overwrite_another(refused, run):
    assert "already holds a run" in refused("E0515", config(run)).message


def test_there_is_nothing_to_resume(refused, tmp_path):
    assert "no run" in refused("E0515", config(tmp_path / "empty", resume="latest")).message
    assert not (tmp_path / "empty").exists()


@pytest.mark.parametrize("resume", ["state_3", "adapter_2", "state_x", "nowhere"])
def test_what_is_no_state(refused, run, resume):
    refused("E0515", config(run, resume=run / resume))


def test_another_plan_is_refused_with_the_difference(refused, make_plan, run):
    found = refused("E0512", config(run, resume="latest"), plan=make_plan(rank=5))
    assert any("attention.self.query`: r: 4 -> 5" in note for note in found.notes)
    assert found.place == str(run / "plan.json")


def test_another_checkpointing_is_another_plan(refused, plan, run):
    found = refused("E0512", config(run, resume="latest"), plan=plan.model_copy(update={"checkpointed": []}))
    assert found.notes == ("checkpoint: `encoder.layer.0` is gone",)


def test_another_wording_of_the_same_plan_is_accepted(tiny, plan, run):
    fingerprints = plan.fingerprints.model_copy(update={"spec": "sha256:0"})
    train(
        tiny.build(),
        plan.model_copy(update={"fingerprints": fingerprints}),
        tiny.Unmask(),
        config(run, resume="latest"),
    )


def test_other_settings_are_refused_all_at_once(refused, run):
    found = refused("E0512", config(run, resume="latest", seed=1, batch_size=4, num_workers=1, log_every=1))
    assert found.notes == ("batch_size: 8 -> 4", "seed: 0 -> 1")


def test_other_data_are_refused(refused, tiny, run):
    found = refused("E0512", config(run, resume="latest"), task=tiny.Unmask(samples=23))
    assert found.notes == ("samples in the data: 22 -> 23",)


def test_a_later_save_is_not_thrown_away(refused, run):
    assert "later save" in refused("E0515", config(run, resume=run / "state_2")).message


def test_a_run_past_the_steps_asked_for(refused, run):
    assert "step 4 already" in refused("E0515", config(run, resume="latest", steps=3)).message


def test_a_save_in_parts(refused, run):
    shutil.rmtree(run / "adapter_4")
    assert "adapter_4" in refused("E0515", config(run, resume="latest")).message
    (run / "state_4" / "state.safetensors").write_bytes(b"\0" * 10)
    assert "cannot read" in refused("E0515", config(run, resume="latest")).message


@pytest.mark.parametrize("damage", ["missing", "shape", "rng"])
def test_a_state_that_is_not_this_optimisers(refused, run, damage):
    file = run / "state_4" / "state.safetensors"
    tensors = load_file(file)
    name = next(name for name in tensors if name.startswith("rng" if damage == "rng" else "optimizer.exp_avg"))
    if damage == "shape":
        tensors[name] = tensors[name].flatten()[:2].clone()
    else:
        del tensors[name]
    save_file(tensors, file)
    assert "cannot read" in refused("E0515", config(run, resume="latest", steps=5)).message


def test_a_finished_run_has_nothing_left_to_do(tiny, plan, run):
    before = contents(run)
    result = train(tiny.build(), plan, tiny.Unmask(), config(run, resume="latest"))
    assert (result.step, result.losses) == (4, {})
    assert contents(run) == before


def test_a_run_forks_from_a_state_into_another_folder(tiny, plan, run, tmp_path):
    before = contents(run)
    result = train(tiny.build(), plan, tiny.Unmask(), config(tmp_path / "fork", resume=run / "state_2"))
    assert contents(run) == before
    [original] = {p.read_bytes() for p in (run / "adapter_4" / plan.adapters[0].name).glob("*.safetensors")}
    assert (result.adapter / plan.adapters[0].name / "adapter_model.safetensors").read_bytes() == original


def test_a_run_at_a_constant_rate_goes_on_for_longer(tiny, plan, run):
    result = train(tiny.build(), plan, tiny.Unmask(), config(run, resume="latest", steps=7))
    assert result.step == 7
    assert (run / "state_7").is_dir()


def test_a_run_killed_before_its_first_save_starts_again(tiny, plan, run, finished):
    for folder in [*run.glob("state_*"), run / "adapter_2"]:
        shutil.rmtree(folder)
    (run / ".saving-state_2").mkdir()
    train(tiny.build(), plan, tiny.Unmask(), config(run, resume="latest"))
    assert {p.relative_to(run) for p in contents(run)} == {p.relative_to(finished) for p in contents(finished)}


def test_only_the_last_states_are_kept(tiny, plan, tmp_path):
    train(tiny.build(), plan, tiny.Unmask(), config(tmp_path, save_every=1, keep_last=1))
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["adapter_1", "adapter_2", "adapter_3", "adapter_4", "plan.json", "state_4"]


def test_nothing_is_pickled(finished):
    kinds = {path.suffix for path in contents(finished)}
    assert kinds == {".json", ".safetensors"}
