"""The keys of a file and the tensors of a plan, one for one, whatever the modules are called; else all that differs."""

from pathlib import Path

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from surgery.diagnostics import SurgeryError
from surgery.importing import ForeignAdapter, fit
from surgery.importing.foreign import ForeignTensor
from surgery.planning.plan import Fingerprints, Plan, Site, Totals

INPUTS, OUTPUTS, RANK = 5, 7, 3
SHAPES = {"lora_A.weight": (RANK, INPUTS), "lora_B.weight": (OUTPUTS, RANK)}


def plan_of(paths):
    given = {"r": RANK, "alpha": RANK, "dropout": 0.0, "rslora": False, "dora": False, "init": True}
    common = {"kind": "Linear", "shape": [OUTPUTS, INPUTS], "target": "a", "place": "a.surg:1", "adapter": "default"}
    sites = [Site(path=path, method="lora", settings=given, scale=1.0, added=36, **common) for path in paths]
    totals = dict.fromkeys(("added", "trained", "trainable", "total", "share", "adapter_bytes", "optimizer_bytes"), 0)
    empty = ("adapters", "never", "excluded", "assumed", "switched_off", "trained", "checkpointed", "budget")
    return Plan(
        applyable=True,
        spec="a.surg",
        model="",
        sites=sites,
        diagnostics=[],
        totals=Totals(**totals),
        fingerprints=Fingerprints(spec="", graph=""),
        **{name: [] for name in empty},
    )


def shapes_of(paths):
    return {"default": {f"base_model.model.{path}.{name}": shape for path in paths for name, shape in SHAPES.items()}}


def file_of(tensors):
    return ForeignAdapter(Path("file.safetensors"), {k: ForeignTensor(s, "F32") for k, s in tensors.items()}, None)


def fitted(paths, tensors, **options):
    found = fit(file_of(tensors), plan_of(paths), shapes_of(paths), **options)
    return {source.key: slot.key for slot, source in found.sources.items()}


def refused(paths, tensors, **options):
    with pytest.raises(SurgeryError) as error:
        fit(file_of(tensors), plan_of(paths), shapes_of(paths), **options)
    [found] = error.value.diagnostics
    assert found.code == "E0519"
    assert found.helps
    return "\n".join(found.notes)


# How writers spell a path, and then a parameter of it.
PATHS = {
    "peft": lambda path: f"base_model.model.{path}",
    "bare": lambda path: path,
    "pipeline": lambda path: f"transformer.{path}",
    "comfyui": lambda path: f"model.diffusion_model.{path}",
    "compiled": lambda path: f"module._orig_mod.{path}",
    "sharded": lambda path: "_fsdp_wrapped_module." + path.replace(".", "._orig_mod.", 1),
    "kohya": lambda path: "lora_unet_" + path.replace(".", "_"),
}
NAMES = {
    "peft": {"lora_A.weight": "lora_A.weight", "lora_B.weight": "lora_B.weight"},
    "named": {"lora_A.weight": "lora_A.my_adapter.weight", "lora_B.weight": "lora_B.my_adapter.weight"},
    "kohya": {"lora_A.weight": "lora_down.weight", "lora_B.weight": "lora_up.weight"},
    "diffusers": {"lora_A.weight": "lora.down.weight", "lora_B.weight": "lora.up.weight"},
    "voxcpm": {"lora_A.weight": "lora_A", "lora_B.weight": "lora_B"},
}
# Names that look like parts of keys, prefixes of each other, numbers, and underscores that could be dots.
SEGMENT = st.sampled_from(
    [
        *("a", "a_b", "b", "lora_A", "lora_B", "lora", "down", "weight", "alpha", "default", "model", "base_model"),
        *("0", "1", "10", "01", "transformer", "unet", "lora_unet", "to_q", "to_q_lora", "q", "processor"),
    ]
)
TREES = st.sets(st.lists(SEGMENT, min_size=1, max_size=5).map(".".join), min_size=1, max_size=8).map(sorted)


def spelled(paths, path_style, name_style):
    """The file of an adapter on these paths, key by key with the tensor of the plan that it holds."""
    return {
        f"{PATHS[path_style](path)}.{NAMES[name_style][name]}": f"base_model.model.{path}.{name}"
        for path in paths
        for name in SHAPES
    }


def shape_for(slot):
    return next(shape for name, shape in SHAPES.items() if slot.endswith(name))


@settings(max_examples=400, deadline=None)
@given(TREES, st.sampled_from(sorted(PATHS)), st.sampled_from(sorted(NAMES)))
def test_every_spelling_is_read_as_meant_or_not_at_all(paths, path_style, name_style):
    keys = spelled(paths, path_style, name_style)
    tensors = {key: shape_for(slot) for key, slot in keys.items()}
    try:
        found = fitted(paths, tensors, scale="plan")
    except SurgeryError:
        # Only what cannot be told apart may be refused: two paths that are one when underscored, or a second reading.
        assume(len(keys) == 2 * len(paths) and not adversarial(paths))
        raise
    assert found == keys


def adversarial(paths):
    return any(part in path for path in paths for part in ("lora", "processor", "weight", "alpha", "_"))


CALM = st.sampled_from(["attn", "ff", "to_q", "to_k", "proj", "0", "1", "2", "11", "block", "net", "conv_in"])
CALM_TREES = st.sets(st.lists(CALM, min_size=2, max_size=4).map(".".join), min_size=2, max_size=6).map(sorted)


@settings(max_examples=300, deadline=None)
@given(CALM_TREES, st.sampled_from(sorted(PATHS)), st.sampled_from(sorted(NAMES)))
def test_ordinary_names_are_always_read(paths, path_style, name_style):
    keys = spelled(paths, path_style, name_style)
    assume(len(keys) == 2 * len(paths))
    assert fitted(paths, {key: shape_for(slot) for key, slot in keys.items()}, scale="plan") == keys


@settings(max_examples=300, deadline=None)
@given(CALM_TREES, st.sampled_from(sorted(PATHS)), st.sampled_from(sorted(NAMES)), st.data())
def test_a_changed_file_is_refused_with_what_was_changed(paths, path_style, name_style, data):
    keys = spelled(paths, path_style, name_style)
    assume(len(keys) == 2 * len(paths))
    tensors = {key: shape_for(slot) for key, slot in keys.items()}
    key = data.draw(st.sampled_from(sorted(keys)))
    change = data.draw(st.sampled_from(["drop", "rename", "add", "twice", "shape", "rank"]))
    if change == "drop":
        del tensors[key]
        assert "missing in the file" in refused(paths, tensors, scale="plan")
    elif change == "rename":
        tensors[key.replace(".", ".other", 1)] = tensors.pop(key)
        notes = refused(paths, tensors, scale="plan")
        assert "missing in the file" in notes
        assert "not in the plan" in notes
    elif change == "add":
        tensors[f"{PATHS[path_style]('elsewhere.linear')}.{NAMES[name_style]['lora_A.weight']}"] = (RANK, INPUTS)
        assert "1 tensor not in the plan" in refused(paths, tensors, scale="plan")
    elif change == "twice":
        other = {"kohya": "diffusers"}.get(name_style, "kohya")
        again = next(k for k in spelled(paths, path_style, other) if keys[key] == spelled(paths, path_style, other)[k])
        tensors[again] = tensors[key]
        assert any(word in refused(paths, tensors, scale="plan") for word in ("ambiguous", "not in the plan"))
    elif change == "shape":
        tensors[key] = (*tensors[key], 2)
        assert "1 tensor of another shape" in refused(paths, tensors, scale="plan")
    else:
        for name in tensors:
            tensors[name] = tuple(RANK + 1 if size == RANK else size for size in tensors[name])
        assert f"{len(tensors)} tensors of another shape" in refused(paths, tensors, scale="plan")


def test_adapters_that_peft_nests_in_each_other():
    slots = {
        f"base_model.model.experts.{inner}{name}": s for inner in ("", "base_layer.") for name, s in SHAPES.items()
    }
    raw = {slot.replace(".weight", ".default.weight"): slot for slot in slots}
    file = file_of({key: slots[slot] for key, slot in raw.items()})
    found = fit(file, plan_of(["experts"]), {"default": slots}, scale="plan")
    assert {source.key: slot.key for slot, source in found.sources.items()} == raw


def test_underscored_paths_that_collide_are_refused_with_both():
    paths = ["net.a_b", "net.a.b"]
    tensors = {"lora_unet_net_a_b.lora_down.weight": (3, 5), "lora_unet_net_a_b.lora_up.weight": (7, 3)}
    notes = refused(paths, tensors)
    assert "`lora_unet_net_a_b.lora_down.weight` may be" in notes
    assert "`base_model.model.net.a_b.lora_A.weight` or `base_model.model.net.a.b.lora_A.weight`" in notes


def test_the_rank_to_plan_with_is_named():
    paths = ["net.a", "net.b"]
    tensors = {key: tuple(16 if n == RANK else n for n in shape) for key, shape in shapes_of(paths)["default"].items()}
    with pytest.raises(SurgeryError) as error:
        fit(file_of(tensors), plan_of(paths), shapes_of(paths))
    assert error.value.diagnostics[0].helps == ("the file has rank 16: plan with `r = 16`",)


def test_another_method_is_named():
    paths = ["net.a", "net.b"]
    with pytest.raises(SurgeryError) as error:
        fit(file_of({f"{p}.hada_w1_a": (7, 3) for p in paths}), plan_of(paths), shapes_of(paths))
    assert "the file holds loha, the plan has lora" in error.value.diagnostics[0].helps


def test_the_nearest_missing_tensor_is_named():
    paths = ["net.attention.query", "net.attention.value"]
    tensors = shapes_of(paths)["default"]
    tensors = {key.replace("query", "qeury"): shape for key, shape in tensors.items()}
    with pytest.raises(SurgeryError) as error:
        fit(file_of(tensors), plan_of(paths), shapes_of(paths))
    wrong, right = (f"base_model.model.net.attention.{name}.lora_A.weight" for name in ("qeury", "query"))
    assert f"`{wrong}` is near `{right}`" in error.value.diagnostics[0].helps


def test_another_module_of_the_same_shape_is_not_taken():
    """The file's own path is never replaced: block 0 is not loaded into block 1."""
    tensors = {key.replace("blocks.1", "blocks.0"): s for key, s in shapes_of(["blocks.1.to_q"])["default"].items()}
    assert "missing in the file" in refused(["blocks.1.to_q"], tensors)
    assert "missing in the file" in refused(["encoder.layers.0.q"], {k.replace("encoder", "decoder"): s for k, s in
                                            shapes_of(["encoder.layers.0.q"])["default"].items()})  # fmt: skip


@pytest.mark.parametrize("prefix", ["", "base_model.model."])
def test_a_file_relative_to_a_module_that_all_of_the_plan_lies_in(prefix):
    paths = ["transformer.blocks.0.to_q", "transformer.blocks.1.to_q"]
    tensors = {k.replace("base_model.model.transformer.", prefix): s for k, s in shapes_of(paths)["default"].items()}
    found = fitted(paths, tensors, scale="plan")
    assert found[f"{prefix}blocks.1.to_q.lora_A.weight"] == f"base_model.model.{paths[1]}.lora_A.weight"


def test_one_component_of_a_file():
    paths = ["blocks.0.to_q", "blocks.1.to_q"]
    own = {k.replace("base_model.model", "transformer"): s for k, s in shapes_of(paths)["default"].items()}
    other = {"text_encoder.layers.0.q.lora_A.weight": (3, 5), "text_encoder.layers.0.q.lora_B.weight": (7, 3)}
    assert "2 tensors not in the plan" in refused(paths, own | other)
    assert set(fitted(paths, own | other, only="transformer")) == set(own)


def test_a_file_that_says_no_scale_is_not_guessed():
    paths = ["blocks.0.to_q", "blocks.1.to_q"]
    plan = plan_of(paths)
    plan = plan.model_copy(update={"sites": [site.model_copy(update={"scale": 2.0}) for site in plan.sites]})
    file = file_of(shapes_of(paths)["default"])
    with pytest.raises(SurgeryError) as error:
        fit(file, plan, shapes_of(paths))
    [found] = error.value.diagnostics
    assert "nothing in or beside the file says its scale" in found.notes[0]
    assert fit(file, plan, shapes_of(paths), scale="plan").rescaled == {}
    assert fit(file, plan, shapes_of(paths), scale=1.0).rescaled == dict.fromkeys(paths, 0.5)
    with pytest.raises(SurgeryError, match="nan is no scale"):
        fit(file, plan, shapes_of(paths), scale=float("nan"))


@pytest.mark.parametrize(
    ("stored", "wanted", "fits"),
    [
        ((7, 1), (7,), True),
        ((7, 1, 1, 1), (1, 7, 1, 1), True),
        ((1, 7), (7,), False),  # one per input, as LyCORIS also has them: another decomposition
        ((1, 7, 1), (7,), False),
    ],
)
def test_magnitudes_of_another_axis_are_not_taken(stored, wanted, fits):
    slots = {"base_model.model.net.a.lora_magnitude_vector": wanted} | shapes_of(["net.a"])["default"]
    tensors = {k.replace("lora_magnitude_vector", "dora_scale"): s for k, s in slots.items()}
    tensors["base_model.model.net.a.dora_scale"] = stored
    file = file_of(tensors)
    if fits:
        assert fit(file, plan_of(["net.a"]), {"default": slots}, scale="plan").rescaled == {}
    else:
        with pytest.raises(SurgeryError, match="1 tensor of another shape"):
            fit(file, plan_of(["net.a"]), {"default": slots}, scale="plan")
