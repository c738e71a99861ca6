"""A small mixture of experts as a graph: fused weights, and one of every parameter that is hard to adapt."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from surgery.graph import Block, Fact, Graph, Header, Init, Module, Parameter

WIDTH, HIDDEN, EXPERTS, LAYERS = 8, 16, 4, 3
RANDOM, ZERO, UNKNOWN = Init("random", "mixture.py:9"), Init("zero", "mixture.py:19"), Init("unknown")
ROLE_PARAMETERS = {"feedforward_in": ("gate_up_proj",), "feedforward_out": ("down_proj",)}


class Storages:
    """Numbers parameters, each a storage of its own."""

    def __init__(self) -> None:
        self.last = 0

    def parameter(self, name: str, *shape: int, init: Init = RANDOM, dtype: str = "float32") -> Parameter:
        self.last += 1
        return Parameter(name, shape, dtype, init, self.last)


def module(path: str, kind: str, *parameters: Parameter, **facts: Any) -> Module:
    return Module(path, kind, (kind,), parameters, **{"calls": 1, "gradient": Fact("yes"), **facts})


def layer(own: Storages, index: int, **experts: Any) -> Iterator[Module]:
    """A decoder layer: a table of its own, attention, a router, and the experts as two stacks of matrices."""
    path, at = f"layers.{index}", Block("layers.*", index)
    stacks = (
        own.parameter("gate_up_proj", EXPERTS, 2 * HIDDEN, WIDTH),
        own.parameter("down_proj", EXPERTS, WIDTH, HIDDEN, init=ZERO if index == 2 else RANDOM),
    )
    roles = {"feedforward_in": "linear -> silu", "feedforward_out": "silu -> linear"}
    facts = {"roles": roles, "role_parameters": ROLE_PARAMETERS, **experts}
    yield module(path, "Layer", own.parameter("table", 2, WIDTH), block=at)
    yield module(f"{path}.attn", "Attention", block=at)
    yield module(
        f"{path}.attn.q", "Linear", own.parameter("weight", WIDTH, WIDTH), own.parameter("bias", WIDTH), block=at
    )
    yield module(f"{path}.mlp", "Mixture", block=at)
    yield module(
        f"{path}.mlp.gate", "Router", own.parameter("weight", EXPERTS, WIDTH), block=at, roles={"router": "topk"}
    )
    yield module(f"{path}.mlp.experts", "Experts", *stacks, block=at, **facts)
    yield module(f"{path}.mlp.experts.act", "SiLU", block=at)


def modules(**experts: Any) -> Iterator[Module]:
    own = Storages()
    yield module("", "Model", own.parameter("token", 1, WIDTH))
    words = own.parameter("weight", 10, WIDTH)
    yield module("embed", "Embedding", words, tied=("head",))
    yield module("layers", "ModuleList")
    for index in range(LAYERS):
        yield from layer(own, index, **experts)
    yield module("normed", "ParametrizedLinear", own.parameter("bias", WIDTH), own.parameter("mask", WIDTH, WIDTH))
    yield module("normed.parametrizations", "ModuleDict", calls=0)
    yield module("normed.parametrizations.weight", "ParametrizationList", own.parameter("original1", WIDTH, WIDTH))
    yield module("twice", "Bank", own.parameter("keys", WIDTH, WIDTH), tied=("again",))
    read = Fact("yes", "`keys` is read by matmul in the forward of `attend`; mixture.py:40")
    yield module("around", "Bank", own.parameter("keys", WIDTH, WIDTH), bypassed=read)
    idle = Fact("yes", "never called")
    yield module("idle", "Bank", own.parameter("keys", WIDTH, WIDTH), calls=0, unreached=idle)
    yield module("packed", "Bank", own.parameter("keys", WIDTH, WIDTH, dtype="uint8"))
    yield module("loaded", "Bank", own.parameter("keys", WIDTH, WIDTH, init=UNKNOWN))
    keys = own.parameter("keys", WIDTH, WIDTH)
    yield module("both", "Bank", keys, replace(keys, name="values"))
    yield module("conv", "Conv1d", own.parameter("weight", WIDTH, WIDTH, 3))
    yield module("head", "Linear", words, tied=("embed",))


def mixture(**experts: Any) -> Graph:
    """The graph; `experts` replaces facts of the experts' modules."""
    return graph_of(modules(**experts))


def graph_of(found: Iterator[Module]) -> Graph:
    return Graph(Header(), {one.path: one for one in found}, ())
