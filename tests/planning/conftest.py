"""A small model with one of every oddity, as a graph; and specs from text."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from surgery.diagnostics import Source
from surgery.graph import Block, Fact, Graph, Header, Init, Module, Parameter
from surgery.language import LoadedSpec, load_source
from surgery.planning.planner import Planned, make_plan

WIDTH = 8
BLOCKS = 4
ZERO, RANDOM, UNKNOWN = Init("zero", "toy.py:20"), Init("random", "toy.py:10"), Init("unknown")


def linear(path: str, storage: int, init: Init = RANDOM, **facts: Any) -> Module:
    """A Linear without bias; its storage is the number given."""
    weight = Parameter("weight", (WIDTH, WIDTH), "float32", init, storage)
    defaults: dict[str, Any] = {"calls": 1, "gradient": Fact("yes")}
    numbers = {"in_features": WIDTH, "out_features": WIDTH}
    return Module(path, "Linear", ("Linear",), (weight,), numbers, **{**defaults, **facts})


def container(path: str, kind: str, **facts: Any) -> Module:
    return Module(path, kind, (kind,), calls=1, **facts)


def norm(path: str, storage: int, **facts: Any) -> Module:
    weight = Parameter("weight", (WIDTH,), "float32", Init("constant", "toy.py:11"), storage)
    bias = Parameter("bias", (WIDTH,), "float32", ZERO, storage + 1)
    return Module(path, "LayerNorm", ("LayerNorm",), (weight, bias), calls=1, roles={"norm": "mul(x)"}, **facts)


def block(index: int) -> Iterator[Module]:
    """Attention, modulation and a feed-forward branch."""
    where, base, path = Block("blocks.*", index), 100 * (index + 1), f"blocks.{index}"
    modulation = {"modulation": f"silu(`time`) -> linear -> mul(`{path}.norm`); toy.py:30"}
    yield container(path, "Block", block=where)
    yield norm(f"{path}.norm", base, block=where)
    yield linear(f"{path}.mod", base + 2, ZERO, block=where, roles=modulation)
    yield container(f"{path}.attn", "Attention", block=where)
    for at, name in enumerate(("query", "key", "value")):
        yield linear(f"{path}.attn.to_{name[0]}", base + 3 + at, block=where, roles={f"attention_{name}": "sdpa"})
    yield container(f"{path}.attn.to_out", "ModuleList", block=where)
    yield linear(f"{path}.attn.to_out.0", base + 7, block=where, roles={"attention_output": "sdpa -> linear"})
    yield container(f"{path}.attn.to_out.1", "Dropout", block=where)
    yield container(f"{path}.ff", "Sequential", block=where)
    yield linear(f"{path}.ff.0", base + 8, block=where, roles={"feedforward_in": "linear -> gelu"})
    yield container(f"{path}.ff.1", "GELU", block=where)
    yield linear(f"{path}.ff.2", base + 9, block=where, roles={"feedforward_out": "gelu -> linear"})


def toy_modules() -> Iterator[Module]:
    embedding = Parameter("weight", (10, WIDTH), "float32", RANDOM, 1)
    yield container("", "Toy")
    yield Module("embed", "Embedding", ("Embedding",), (embedding,), calls=1, tied=("head",))
    yield linear("time", 2, roles={"conditioning": "reaches the output only through modulation"})
    yield container("blocks", "ModuleList")
    for index in range(BLOCKS):
        yield from block(index)
    yield container("mha", "MultiheadAttention")
    read = "its weight is read by multi_head_attention_forward; torch/nn/modules/activation.py:1488"
    out_proj = linear("mha.out_proj", 3, bypassed=Fact("yes", read), calls=0)
    kind = "NonDynamicallyQuantizableLinear"
    yield replace(out_proj, kind=kind, bases=(kind, "Linear"))
    yield linear("unused", 4, unreached=Fact("yes", "never called"), calls=0, gradient=Fact("no", "never called"))
    yield container("experts", "ModuleList")
    routed = Fact("unknown", "its siblings ran; toy.py:50 decides")
    yield linear("experts.0", 5)
    yield linear("experts.1", 6, unreached=routed, calls=0)
    yield linear("loaded", 7, UNKNOWN)
    yield linear("cut_off", 10, gradient=Fact("no", "every way out is multiplied by zero"))
    yield linear("doubtful", 8, unknown_roles={"modulation": "its product with the stream is not traced; toy.py:60"})
    yield Module("head", "Linear", ("Linear",), (embedding,), calls=1, tied=("embed",))
    yield linear("proj_out", 9, ZERO, roles={"output_head": "linear -> output"})


def graph_of(modules: Iterable[Module], header: Header | None = None) -> Graph:
    return Graph(header or Header(), {module.path: module for module in modules}, ())


@pytest.fixture
def toy() -> Graph:
    """The toy model."""
    return graph_of(toy_modules())


@pytest.fixture
def spec_of(tmp_path: Path) -> Callable[..., LoadedSpec]:
    """`spec_of(statements, name=value)`: a spec of these statements; its lock would lie in a temporary folder."""

    def make(statements: str, **overrides: Any) -> LoadedSpec:
        return load_source(Source("toy.surg", "surg 1\n" + statements), tmp_path / "toy.surg", overrides)

    return make


@pytest.fixture
def plan_of(toy: Graph, spec_of: Callable[..., LoadedSpec]) -> Callable[..., Planned]:
    """`plan_of(statements, name=value)`: the plan of a spec on the toy model."""

    def make(statements: str, **overrides: Any) -> Planned:
        return make_plan(spec_of(statements, **overrides), toy)

    return make
