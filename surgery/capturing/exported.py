"""The same graph from `torch.export`, as an independent check of what the recorder sees.

`torch.export` runs a model under its own tracer and writes the ops that PyTorch's dispatcher was given (ATen), where
the recorder writes the functions that the model's code called. Facts that hold on both do not hang on how a function
is spelled. Export refuses some models, and under it some models take other branches, so `capture` does not use it.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch.export.graph_signature import InputKind
from torch.utils._pytree import tree_map_only

from surgery.capturing.capture import versions_of
from surgery.capturing.convert import modules_of, nodes_of
from surgery.capturing.initialisation import init_from_value
from surgery.capturing.places import shown_file
from surgery.capturing.tensors import named_tensors, tensors_of
from surgery.capturing.untaken import untaken_paths
from surgery.capturing.untouched import left_as_it_was
from surgery.facts import ops, with_facts
from surgery.graph import Graph, Header

# Names of exported ops whose functions `surgery.facts.ops` knows by another.
_NAMES = {
    "clamp_min": "clamp",
    "grouped_mm_fallback": "_grouped_mm",  # transformers', where a device has no fused one
    "index": "getitem",
    "numpy_T": "T",
    "slice": "getitem",
    "upsample_bicubic2d": "interpolate",
    "upsample_bilinear2d": "interpolate",
    "upsample_linear1d": "interpolate",
    "upsample_nearest1d": "interpolate",
    "upsample_nearest2d": "interpolate",
    "upsample_nearest3d": "interpolate",
    "upsample_trilinear3d": "interpolate",
}
_OVERWRITES = {"copy", "fill", "zero"}
_REGIONS = {"wrap_with_set_grad_enabled": 1, "wrap_with_autocast": 4}  # how many settings stand before their graph
_KINDS = {InputKind.PARAMETER: "parameter", InputKind.BUFFER: "parameter", InputKind.USER_INPUT: "input"}
_FRAME = re.compile(r'File "(.+)", line (\d+), in ')
_TORCH_LAYERS = f"{Path(torch.nn.modules.__file__).parent}/"


def capture_exported(
    model: torch.nn.Module, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
) -> Graph:
    """Export one call of `model` in evaluation mode, gradients enabled, and return its graph with all facts.

    `model` holds real tensors; it is left as it was. Init facts come from its values, as in `capture`. A call of a
    module that runs no op (`nn.Identity`) is not in an exported program, so it is not counted.

    Raises whatever `torch.export.export` raises for a model that it cannot take.
    """
    call = _Call(model, args, kwargs or {})
    with left_as_it_was(model), torch.enable_grad():
        program = torch.export.export(call, call.tensors, strict=False)
    translation = _Translation(program, call)
    modules = modules_of(model, translation.calls, init_from_value)
    untaken = untaken_paths(model, translation.calls)
    graph = Graph(Header(versions=versions_of(model)), modules, nodes_of(translation.graph))
    return with_facts(graph, untaken.reads, untaken.switches)


class _Call(torch.nn.Module):
    """An example call as a function from tensors to tensors: export takes no container that it does not know."""

    def __init__(self, model: torch.nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        super().__init__()
        self.model = model
        self._arguments = (tuple(args), dict(kwargs))
        named: dict[int, tuple[str, torch.Tensor]] = {}
        for name, tensor in named_tensors((*args, dict(kwargs))):
            named.setdefault(id(tensor), (name, tensor))
        self.names = tuple(name for name, _ in named.values())
        self.tensors = tuple(tensor for _, tensor in named.values())

    def forward(self, *tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
        given = {id(tensor): traced for tensor, traced in zip(self.tensors, tensors, strict=True)}
        args, kwargs = tree_map_only(torch.Tensor, lambda tensor: given.get(id(tensor), tensor), self._arguments)
        return tuple(tensor for _, tensor in named_tensors(self.model(*args, **kwargs)))


class _Translation:
    """An exported program as the `torch.fx.Graph` that the recorder would have made of the same call.

    Ops get the names of functions, and the regions that export sets apart (`no_grad`, autocast) stand in line.
    `calls` counts forwards by path.
    """

    def __init__(self, program: torch.export.ExportedProgram, call: _Call) -> None:
        self.graph = torch.fx.Graph()
        self._values = _Values(self.graph)
        self._paths = _first_paths(call.model)
        self._entered: dict[str, set[str]] = {}
        self._weights: set[torch.fx.Node] = set()
        self._placeholders(program, call)
        self._region(program.graph, cut=False)
        output = self.graph.output(self._values.of(program.graph.output_node().args[0]))
        output.meta = {"name": "output", "module": "", "place": ""}

    @property
    def calls(self) -> dict[str, int]:
        return {path: len(keys) for path, keys in self._entered.items()}

    def _placeholders(self, program: torch.export.ExportedProgram, call: _Call) -> None:
        """Inputs of the call, and the parameters, buffers and constants that some op reads."""
        specs = {spec.arg.name: spec for spec in program.graph_signature.input_specs}
        names = iter(call.names)
        for node in program.graph.find_nodes(op="placeholder"):
            spec = specs[node.name]
            kind = _KINDS.get(spec.kind, "constant")
            if kind != "input" and not node.users:
                continue
            target = next(names) if kind == "input" else ""
            if kind == "parameter":
                owner, _, name = str(spec.target).rpartition(".")
                target = f"{self._paths[owner]}.{name}".lstrip(".")
            if spec.kind is InputKind.PARAMETER:
                self._weights.add(node)
            made = self.graph.placeholder(node.name)
            made.meta = {"name": kind, "module": "", "place": "", "target": target}
            self._values.hold(node, made)

    def _region(self, graph: torch.fx.Graph, *, cut: bool) -> None:
        for node in graph.nodes:
            if node.op != "call_function":
                continue
            if _name(node) in _REGIONS:
                self._inline(node, cut=cut)
            elif node.target is operator.getitem and (parts := self._values.parts(node.args[0])):
                self._values.stand(node, parts[node.args[1]])
            elif any(True for _ in tensors_of(node.meta.get("val"))):
                self._op(node, cut=cut)

    def _inline(self, node: torch.fx.Node, *, cut: bool) -> None:
        """Translate the graph that runs with other settings where it is called."""
        settings = node.args[: _REGIONS[_name(node)]]
        region, *given = node.args[len(settings) :]
        assert isinstance(region, torch.fx.Node)
        inner = getattr(node.graph.owning_module, str(region.target)).graph
        for placeholder, outside in zip(inner.find_nodes(op="placeholder"), given, strict=True):
            self._values.stand(placeholder, outside)
        self._region(inner, cut=not settings[0] if _name(node) == "wrap_with_set_grad_enabled" else cut)
        self._values.stand(node, inner.output_node().args[0])

    def _op(self, node: torch.fx.Node, *, cut: bool) -> None:
        name = _name(node)
        written = next(_written(node), None)
        if written and self._values.origin(written) in self._weights:
            self._values.stand(node, written)  # a weight that the call rescales in place is still the weight
            return
        read = node.args[1:] if written and name in _OVERWRITES else node.args
        made = self.graph.call_function(_function(node), self._values.of(read), self._values.of(node.kwargs))
        made.meta = {
            "name": name,
            "module": self._enter(node.meta.get("nn_module_stack") or {}),
            "place": _place(node.meta.get("stack_trace") or ""),
            "cut": cut or name in ops.FLAT,
        }
        if written:
            self._values.write(written, node, made)
        else:
            self._values.hold(node, made)

    def _enter(self, stack: Mapping[str, tuple[str, str]]) -> str:
        """The path of the innermost module of a stack. A key of the stack is one call of a module."""
        path = ""
        for key, (exported, _) in stack.items():
            if exported in self._paths:
                path = self._paths[exported]
                self._entered.setdefault(path, set()).add(key)
        return path


class _Values:
    """Which node of `graph` holds the value of an exported node now: in-place ops are followed through views."""

    def __init__(self, graph: torch.fx.Graph) -> None:
        self._graph = graph
        self._now: dict[torch.fx.Node, torch.fx.Node] = {}
        self._same: dict[torch.fx.Node, Any] = {}  # what a region's placeholders and results are outside or inside it
        self._views: dict[int, list[torch.fx.Node]] = {}  # by storage, the tensor that it was made for first
        self._writes: dict[int, int] = {}  # to each storage
        self._seen: dict[torch.fx.Node, int] = {}  # how many of them a node's value knows of

    def hold(self, node: torch.fx.Node, made: torch.fx.Node) -> None:
        """Let `made` be the value of an exported node, and describe it."""
        _describe(made, node)
        self._set(node, made)
        if isinstance(node.meta["val"], torch.Tensor):
            self._views.setdefault(_storage(node), []).append(node)

    def stand(self, node: torch.fx.Node, other: Any) -> None:
        """Let an exported node be another one, or several."""
        self._same[node] = other

    def parts(self, node: Any) -> Any:
        """The nodes that a region's result stands for."""
        return self._same.get(node)

    def of(self, exported: Any) -> Any:
        """An argument of an exported node with the values of the nodes in it."""
        return torch.fx.map_arg(exported, self._value)

    def write(self, written: torch.fx.Node, node: torch.fx.Node, made: torch.fx.Node) -> None:
        """After an in-place op, `made` is the value of what it wrote into, and a part of what that is a view of."""
        self._same[node] = written
        written = self.origin(written)
        whole = self._views[_storage(written)][0]
        before = self._value(whole)
        self._writes[_storage(written)] = self._writes.get(_storage(written), 0) + 1
        self._change(written, made)
        if _layout(whole) != _layout(written):
            changed = self._graph.call_function(operator.setitem, (before, made))
            changed.meta = made.meta | {"name": "setitem"}
            self._change(whole, changed)

    def _change(self, written: torch.fx.Node, made: torch.fx.Node) -> None:
        """`made` is the value of every tensor that shows the same part of a storage."""
        _describe(made, written)
        for view in self._views[_storage(written)]:
            if _layout(view) == _layout(written):
                self._set(view, made)

    def _value(self, node: torch.fx.Node) -> torch.fx.Node | None:
        node = self.origin(node)
        if node in self._now and self._seen[node] < self._writes.get(_storage(node), 0) and self._is_view(node):
            before = self._now[node]
            again = self._graph.call_function(_function(before), self.of(node.args), self.of(node.kwargs))
            again.meta = dict(before.meta)
            self._set(node, again)
        return self._now.get(node)

    def _is_view(self, node: torch.fx.Node) -> bool:
        """Whether a node shows the storage of one that it reads."""
        sources = map(self.origin, node.all_input_nodes)
        return any(source in self._now and _storage(source) == _storage(node) for source in sources)

    def origin(self, node: torch.fx.Node) -> torch.fx.Node:
        """The node that one stands for, or itself."""
        while isinstance(other := self._same.get(node), torch.fx.Node):
            node = other
        return node

    def _set(self, node: torch.fx.Node, made: torch.fx.Node) -> None:
        self._now[node] = made
        self._seen[node] = self._writes.get(_storage(node), 0)


def _first_paths(model: torch.nn.Module) -> dict[str, str]:
    """Every path of the exported call to the model's own: a module with several is known by its first."""
    first: dict[torch.nn.Module, str] = {}
    found = {}
    for path, module in model.named_modules(remove_duplicate=False):
        found[f"model.{path}".rstrip(".")] = first.setdefault(module, path)
    return found


def _function(node: torch.fx.Node) -> Callable[..., Any]:
    assert callable(node.target)
    return node.target


def _name(node: torch.fx.Node) -> str:
    """The function's name of an exported op: `aten.add_.Tensor` and `aten.add.Scalar` are both `add`."""
    if node.target is operator.getitem:
        return "pick"
    schema = getattr(node.target, "_schema", None)
    name = schema.name.rpartition("::")[2] if schema else getattr(node.target, "__name__", str(node.target))
    return _NAMES.get(name) or name.rstrip("_")


def _written(node: torch.fx.Node) -> Iterator[torch.fx.Node]:
    """The tensors that an op writes into, as its schema says."""
    schema = getattr(node.target, "_schema", None)
    for argument, given in zip(schema.arguments if schema else (), node.args, strict=False):
        if argument.alias_info and argument.alias_info.is_write and isinstance(given, torch.fx.Node):
            yield given


def _describe(made: torch.fx.Node, exported: torch.fx.Node) -> None:
    """Note shape and dtype of the first tensor; a size that depends on values is not in an exported program: 0."""
    first = next(tensors_of(exported.meta["val"]))
    shape = tuple(size if isinstance(size, int) else 0 for size in first.shape)
    made.meta |= {"shape": shape, "dtype": str(first.dtype).removeprefix("torch.")}


def _storage(node: torch.fx.Node) -> int:
    return int(_whole_batch(node).untyped_storage()._cdata)


def _layout(node: torch.fx.Node) -> tuple[Any, ...]:
    """Which part of its storage a tensor shows."""
    tensor = _whole_batch(node)
    return tensor.shape, tensor.stride(), tensor.storage_offset()


def _whole_batch(node: torch.fx.Node) -> torch.Tensor:
    """The first tensor of a node's value, with the batch that a function inside `torch.vmap` does not see."""
    tensor = next(tensors_of(node.meta["val"]))
    while torch._C._functorch.is_batchedtensor(tensor):
        tensor = torch._C._functorch.get_unwrapped(tensor)
    return tensor


def _place(stack_trace: str) -> str:
    """`package/file.py:line` of the innermost line of the model's code; of torch's layer where there is none."""
    frames = _FRAME.findall(stack_trace)[::-1]
    places = (f"{name}:{line}" for file, line in frames if (name := shown_file(file)))
    layers = (f"torch/nn/modules/{Path(file).name}:{line}" for file, line in frames if file.startswith(_TORCH_LAYERS))
    return next(places, None) or next(layers, "")
