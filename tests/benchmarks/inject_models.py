"""Models on meta for the benchmarks of injecting, and plans for them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from mixture import Mixture
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM

from surgery.graph import Init, Module, Parameter
from surgery.methods import METHODS
from surgery.planning.plan import Adapter, Fingerprints, Plan, Site, Totals

RANK = 8
LLAMAS = {
    "Llama-8B": {"hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32, "num_attention_heads": 32},
    "Llama-405B": {
        "hidden_size": 16384,
        "intermediate_size": 53248,
        "num_hidden_layers": 126,
        "num_attention_heads": 128,
    },
}


def model(name: str) -> nn.Module:
    """A model on meta: a Llama by its name, or the mixture with this many blocks."""
    with torch.device("meta"):
        if name in LLAMAS:
            return LlamaForCausalLM(LlamaConfig(vocab_size=128256, num_key_value_heads=8, **LLAMAS[name]))
        return Mixture(blocks=int(name))


def targets(model: nn.Module) -> list[str]:
    """The linears of attention and of the feed-forward layers."""
    left_out = ("lm_head", "head", "router")
    return [
        path for path, module in model.named_modules() if isinstance(module, nn.Linear) and not path.endswith(left_out)
    ]


def plan(model: nn.Module, paths: Sequence[str]) -> Plan:
    """A plan of LoRA on these linears, as one that was read from a file."""
    method = METHODS["lora"]
    settings = {setting.name: setting.default for setting in method.settings} | {"r": RANK}
    sites = [_site(model.get_submodule(path), path, settings) for path in paths]
    added = sum(site.added for site in sites)
    total = sum(parameter.numel() for parameter in model.parameters())
    return Plan(
        applyable=True,
        spec="benchmark.surg",
        model="",
        sites=sites,
        adapters=[Adapter(name="default", method="lora", settings={}, sites=len(sites), added=added)],
        never=[],
        excluded=[],
        assumed=[],
        switched_off=[],
        trained=[],
        checkpointed=[],
        budget=[],
        totals=Totals(
            added=added,
            trained=0,
            trainable=added,
            total=total,
            share=added / total,
            adapter_bytes=4 * added,
            optimizer_bytes=8 * added,
        ),
        fingerprints=Fingerprints(spec="", graph=""),
        diagnostics=[],
    )


def _site(layer: nn.Module, path: str, settings: dict[str, object]) -> Site:
    method = METHODS["lora"]
    shape = tuple(layer.weight.shape)
    module = Module(path, "Linear", ("Linear",), (Parameter("weight", shape, "float32", Init("random"), 0),), {})
    return Site(
        path=path,
        kind="Linear",
        shape=list(shape),
        target="linears",
        place="benchmark.surg:1",
        method="lora",
        settings=dict(settings),
        scale=method.scale(module, settings),
        added=method.added(module, settings),
        adapter="default",
    )
