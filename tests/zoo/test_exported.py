"""Every fact of every module of the zoo, from the recorded run and from `torch.export`: two tracers, one answer."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from architectures import ARCHITECTURES

import surgery
from surgery.capturing.exported import capture_exported
from surgery.graph import Graph, Module

pytestmark = [
    pytest.mark.heavy,
    pytest.mark.filterwarnings("ignore:The tensor attribute"),  # export says what is then taken back
]

# What torch.export does not take, and what it says.
REFUSED = {
    # modeling_fastspeech2_conformer.py:108, if duration_labels.sum() == 0
    "audio_held_out/fastspeech2_conformer": "Could not guard on data-dependent expression",
    # modeling_moshi.py:687, if position_idx == 0, an item of codebook_idx
    "audio_held_out/moshi_depth": "Could not guard on data-dependent expression",
    # transformer_hidream_image.py:389, tokens_per_expert = flat_expert_indices.bincount().cpu().numpy().cumsum(0)
    "diffusers_held_out/hidream_image": r"\.numpy\(\) is not supported for tensor subclasses",
    # transformer_lumina2.py:519, len(set(seq_lengths)) > 1, lengths that are sums of a mask
    "diffusers_held_out/lumina2": "unhashable type: non-nested SymInt",
    # transformer_omnigen.py:155, if seq_len > self.original_max_position_embeddings, a maximum of position ids
    "diffusers_held_out/omnigen": "Could not guard on data-dependent expression",
    # modeling_encodec.py:150, if length <= max_pad, a padding computed from buffers
    "sampled_held_out/encodec": "Could not guard on data-dependent expression",
    # modeling_superpoint.py:49, if k >= len(keypoints), as many as scores above a threshold
    "sampled_held_out/lightglue": "Could not extract specialized integer from data-dependent expression",
    # modeling_dbrx.py:295, for expert_idx in expert_hit, the experts that a router picked
    "text_held_out/dbrx": "Could not guard on data-dependent expression",
    # modeling_nystromformer.py:204 adds a mask that fits no landmarks; masking_utils.py:368 drops a mask of ones,
    # but not under a tracer
    "text_held_out/nystromformer": "Attempting to broadcast a dimension",
    # modeling_switch_transformers.py:743 makes the missing mask only where not is_torchdynamo_compiling()
    "text_held_out/switch_transformers": "'NoneType' object is not subscriptable",
    # modeling_qwen2_vl.py:403, torch.split(tensor, lengths.tolist(), dim=2)
    "vision_held_out/qwen2_vl": "Could not guard on data-dependent expression",
}

# Export writes a module on its stack when it is called, not when its `forward` is: x_transformers.py:870,
# `forward_from_seq_len`, has `return self.forward(t)`. The module holds a buffer, no parameter.
_CALLED_BY_ITS_FORWARD = {("rotary_embed", "called"): (True, False)}
OF_EXPORT = {
    "f5_tts/dit": _CALLED_BY_ITS_FORWARD,
    "f5_tts/mmdit": _CALLED_BY_ITS_FORWARD,
    "f5_tts/unett": _CALLED_BY_ITS_FORWARD,
}


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_recorded_and_exported_facts_agree(name: str) -> None:
    torch.manual_seed(0)
    model, inputs = ARCHITECTURES[name].build()
    recorded = surgery.capture(model, (), inputs)
    if name in REFUSED:
        with pytest.raises(Exception, match=REFUSED[name]):
            capture_exported(model, (), inputs)
        return
    exported = capture_exported(model, (), inputs)
    assert list(exported.modules) == list(recorded.modules)
    assert differences(recorded, exported) == OF_EXPORT.get(name, {})


def test_exceptions_are_of_architectures_in_the_zoo() -> None:
    assert REFUSED.keys() | OF_EXPORT.keys() <= ARCHITECTURES.keys()
    assert not REFUSED.keys() & OF_EXPORT.keys()


def differences(recorded: Graph, exported: Graph) -> dict[tuple[str, str], tuple[Any, Any]]:
    """The facts on which two graphs differ, by module and name."""
    running = _running(recorded) | _running(exported)
    found = {}
    for path in recorded:
        one, other = (_facts(graph[path], seen=path in running) for graph in (recorded, exported))
        found |= {(path, fact): (one[fact], other[fact]) for fact in one if one[fact] != other[fact]}
    return found


def _facts(module: Module, *, seen: bool) -> dict[str, Any]:
    facts = {
        "bypassed": module.bypassed.answer,
        "tied": module.tied,
        "gradient": module.gradient.answer,
        "block": module.block,
        "roles": set(module.roles),
        "unknown roles": set(module.unknown_roles),
    }
    # A call that runs no op, of an nn.Identity, leaves nothing in an exported program.
    if seen or module.parameters:
        facts |= {"called": module.calls > 0, "unreached": module.unreached.answer}
    return facts


def _running(graph: Graph) -> set[str]:
    """The modules in which an op ran, with those around them."""
    found = set()
    for module in {node.module for node in graph.nodes if node.op != "parameter"}:
        parts = module.split(".")
        found.update(".".join(parts[:depth]) for depth in range(1, len(parts) + 1))
    return found
