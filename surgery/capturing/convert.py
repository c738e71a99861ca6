"""A live module tree and a recorded run as the plain data of `surgery.graph`."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import torch

from surgery.capturing.composites import split_composites
from surgery.capturing.initialisation import InitLookup
from surgery.facts import ops
from surgery.graph import Module, Node, Parameter

# Integer attributes of torch's and transformers' layers that say how large they are.
_NUMBERS = (
    "in_features",
    "out_features",
    "in_channels",
    "out_channels",
    "kernel_size",
    "stride",
    "padding",
    "dilation",
    "groups",
    "num_embeddings",
    "embedding_dim",
    "num_heads",
)


# Names of torch's parameters for tensors, in the order that its signatures have them.
_NAMES_IN_ORDER = "input self query key value mat1 mat2 batch1 batch2 tensor1 tensor2 end other weight bias vec"
_ORDER = {name: rank for rank, name in enumerate(_NAMES_IN_ORDER.split())}


def modules_of(model: torch.nn.Module, calls: Mapping[str, int], init: InitLookup) -> dict[str, Module]:
    """Every module by path, in the order of `named_modules`, with what needs no op graph to know."""
    storages: dict[tuple[int, int], int] = {}
    aliases: dict[int, list[str]] = {}
    for path, module in model.named_modules(remove_duplicate=False):
        aliases.setdefault(id(module), []).append(path)
    found = {}
    for path, module in model.named_modules():
        parameters = tuple(
            Parameter(
                name=name,
                shape=tuple(parameter.shape),
                dtype=_dtype_of(parameter),
                init=init(parameter),
                storage=storages.setdefault(_place_in_memory(parameter), len(storages)),
            )
            for name, parameter in module._parameters.items()
            if parameter is not None
        )
        found[path] = Module(
            path=path,
            kind=type(module).__name__,
            bases=_bases(type(module)),
            parameters=parameters,
            numbers=_numbers(module),
            calls=calls.get(path, 0),
            tied=tuple(alias for alias in aliases[id(module)] if alias != path),
        )
    return found


def _dtype_of(parameter: torch.Tensor) -> str:
    """The dtype; of torchao's quantised tensors their class, since they give the dtype that they stand for."""
    kind = type(parameter)
    return kind.__name__ if kind.__module__.startswith("torchao.") else str(parameter.dtype).removeprefix("torch.")


def _place_in_memory(tensor: torch.Tensor) -> tuple[int, int]:
    """What tied parameters share: a storage, and where in it they begin; an LSTM's lie side by side in one."""
    return tensor.untyped_storage()._cdata, int(tensor.storage_offset())


def _bases(kind: type) -> tuple[str, ...]:
    return tuple(
        base.__name__ for base in kind.__mro__ if issubclass(base, torch.nn.Module) and base is not torch.nn.Module
    ) or (kind.__name__,)


def _numbers(module: torch.nn.Module) -> dict[str, int]:
    numbers: dict[str, int] = {}
    for name in _NUMBERS:
        value = module.__dict__.get(name)  # its own attribute: some libraries answer for their config with a warning
        if isinstance(value, tuple) and value and len(set(value)) == 1:
            value = value[0]
        if isinstance(value, int) and not isinstance(value, bool):
            numbers[name] = value
    if module.__dict__.get("padding_mode", "zeros") != "zeros":
        numbers.pop("padding", None)  # not a number of zeros on each side
    # transformers' Conv1D calls its sizes nx and nf; its weight is (in, out).
    if {"nx", "nf"} <= module.__dict__.keys():
        numbers |= {"in_features": int(module.__dict__["nx"]), "out_features": int(module.__dict__["nf"])}
    return numbers


def nodes_of(graph: torch.fx.Graph) -> tuple[Node, ...]:
    """A recorded `torch.fx.Graph` as nodes; what each node's `meta` holds is said by `Recorder`."""
    split_composites(graph)
    numbers = {node: number for number, node in enumerate(graph.nodes)}
    return tuple(
        Node(
            index=number,
            op=str(node.meta["name"]),
            module=node.meta["module"],
            inputs=tuple(numbers[source] for source in _sources(node)),
            arguments=_arguments(node),
            target=node.meta.get("target", ""),
            shape=node.meta.get("shape", ()),
            dtype=node.meta.get("dtype", ""),
            place=node.meta["place"],
            cut=node.meta.get("cut", False),
        )
        for node, number in numbers.items()
    )


def _sources(node: torch.fx.Node) -> list[torch.fx.Node]:
    """The nodes whose values a node reads, in argument order; one that is read twice stands twice."""
    if node.meta["name"] in ops.LIKE:
        return []
    found: list[torch.fx.Node] = []
    torch.fx.map_arg((node.args, in_order(node.kwargs)), lambda source: found.append(source))
    if node.meta["name"] == "copy" and len(found) == 2:
        return found[1:]  # what was there before is gone
    return found[:1] if node.meta["name"] in ops.AS else found


def in_order(keywords: Mapping[str, Any]) -> list[Any]:
    """Keyword arguments in the order of torch's signatures, in whatever order the call names them."""
    return [keywords[name] for name in sorted(keywords, key=lambda n: _ORDER.get(n, len(_ORDER)))]


def _arguments(node: torch.fx.Node) -> tuple[Any, ...]:
    """The arguments that are no tensors, as JSON values; keywords as `[name, value]`."""
    if node.op != "call_function":
        return ()
    given = [_plain(value) for value in node.args if not isinstance(value, torch.fx.Node)]
    named = [[key, _plain(value)] for key, value in node.kwargs.items() if not isinstance(value, torch.fx.Node)]
    arguments = [value for value in given if value is not None] + [pair for pair in named if pair[1] is not None]
    if node.meta["name"] == ops.MULTI_HEAD:
        arguments.append([ops.TENSOR_NAMES, _names_of_tensors(node)])
    return tuple(arguments)


def _names_of_tensors(node: torch.fx.Node) -> list[str]:
    """Which argument each of a node's inputs is given as."""
    assert callable(node.target)
    bound = inspect.signature(node.target).bind(*node.args, **node.kwargs).arguments
    return [name for name, value in bound.items() if isinstance(value, torch.fx.Node)]


def _plain(value: Any) -> Any:
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, (tuple, list)):
        return [_plain(item) for item in value if not isinstance(item, torch.fx.Node)]
    if isinstance(value, slice):
        bounds = (value.start, value.stop, value.step)
        return ":".join("" if part is None or isinstance(part, torch.fx.Node) else str(part) for part in bounds)
    return None if isinstance(value, (torch.fx.Node, dict)) else str(value).removeprefix("torch.")
