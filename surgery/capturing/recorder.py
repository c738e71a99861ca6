"""One run of a model, recorded as a `torch.fx.Graph`.

A `TorchFunctionMode` sees every torch function that the model's code calls, and a wrapper around each
module's `forward` says which module is running. Unlike `torch.fx.symbolic_trace` this follows any control
flow, and unlike `torch.export` it keeps the functions as the model's code wrote them.
"""

from __future__ import annotations

import functools
import operator
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.overrides import TorchFunctionMode

from surgery.capturing.conversion import converting_fake_modules
from surgery.capturing.known import run
from surgery.capturing.places import calling_place
from surgery.capturing.quantised import bits_of
from surgery.capturing.tensors import named_tensors, tensors_of
from surgery.facts import ops


class Recorder(TorchFunctionMode):
    """Records the functions called while it is active into `graph`.

    Every node's `meta` holds `module` (path of the innermost running module), `place` (the model's line),
    `cut` (no gradient passes), `shape` and `dtype` of its first tensor. `calls` counts forwards by path.
    """

    def __init__(self, names: Mapping[int, str], fake: FakeTensorMode | None = None) -> None:
        """`names` gives the full name of each parameter and buffer by the `id` of its tensor.

        With `fake`, the run is one on fake tensors of that mode; ops on known values run for real (see `known`).
        """
        super().__init__()
        self._fake = fake
        self.graph = torch.fx.Graph()
        self.calls: dict[str, int] = {}
        self._names = names
        self._nodes: dict[int, torch.fx.Node] = {}
        self._alive: dict[int, list[torch.Tensor]] = {}  # by storage; an id means its tensor only while that lives
        self._running: list[str] = [""]
        self._differentiable = False  # within a custom function that was called with gradients

    # --- what runs ------------------------------------------------------------------------

    @contextmanager
    def running(self, model: torch.nn.Module) -> Iterator[None]:
        """While active, each module of `model` announces its forward, called as a module or directly."""
        with ExitStack() as undo:
            undo.enter_context(self._seeing_custom_functions())
            undo.enter_context(_seeing_compiled_functions())
            undo.enter_context(converting_fake_modules())
            for path, module in model.named_modules():
                if isinstance(module, torch.jit.ScriptModule):
                    continue
                had = module.__dict__.get("forward")
                forward = self._linear(module) if bits_of(module) else module.forward
                module.__dict__["forward"] = self._announcing(path, forward)
                if had is None:
                    undo.callback(module.__dict__.pop, "forward")
                else:
                    undo.callback(module.__dict__.__setitem__, "forward", had)
                self._announce_hooks(path, module, undo)
            yield

    def _announce_hooks(self, path: str, module: torch.nn.Module, undo: ExitStack) -> None:
        """What runs just before a module's forward belongs to it: the hooks of older weight norms make its weight."""
        for key, hook in module._forward_pre_hooks.items():
            undo.callback(module._forward_pre_hooks.__setitem__, key, hook)
            module._forward_pre_hooks[key] = self._within(path, hook)

    def _within(self, path: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def announced(*args: Any, **kwargs: Any) -> Any:
            self._running.append(path)
            try:
                return function(*args, **kwargs)
            finally:
                self._running.pop()

        return announced

    @contextmanager
    def _seeing_custom_functions(self) -> Iterator[None]:
        """While active, a `torch.autograd.Function` passes gradients: its backward is its own."""
        apply = torch.autograd.Function.__dict__["apply"]

        def announced(cls: Any, *args: Any, **kwargs: Any) -> Any:
            before, self._differentiable = self._differentiable, self._differentiable or torch.is_grad_enabled()
            try:
                return apply.__func__(cls, *args, **kwargs)
            finally:
                self._differentiable = before

        setattr(torch.autograd.Function, "apply", classmethod(announced))  # noqa: B010  mypy: a method is replaced
        try:
            yield
        finally:
            setattr(torch.autograd.Function, "apply", apply)  # noqa: B010

    def _linear(self, module: Any) -> Callable[..., Any]:
        """A quantised layer's forward, recorded as what it computes: a linear map of its input by its own weight.

        The layer itself unpacks its weight by functions of its library that fake tensors do not have.
        """
        forward: Callable[..., torch.Tensor] = module.forward

        def recorded(x: torch.Tensor) -> torch.Tensor:
            with torch._C.DisableTorchFunction():
                result = x.new_empty(*x.shape[:-1], module.out_features) if self._fake else forward(x)
            given = [tensor for tensor in (x, module.weight, module.bias) if tensor is not None]
            self._record(torch.nn.functional.linear, "linear", tuple(given), {}, result)
            return result

        return recorded

    def _announcing(self, path: str, forward: Callable[..., Any]) -> Callable[..., Any]:
        within = self._within(path, forward)

        @functools.wraps(forward)
        def announced(*args: Any, **kwargs: Any) -> Any:
            self.calls[path] = self.calls.get(path, 0) + 1
            return within(*args, **kwargs)

        return announced

    # --- what is called -------------------------------------------------------------------

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        name = function_name(func)
        result = run(func, name, args, kwargs, self._fake) if self._fake else func(*args, **kwargs)
        if name == "setitem":
            self._record(func, name, args, kwargs, args[0])
        elif any(True for _ in tensors_of(result)):
            self._record(func, name, args, kwargs, result)
        return result

    def _record(self, func: Any, name: str, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> None:
        given = list(tensors_of((args, kwargs)))
        in_place = is_in_place(func, name, kwargs)
        if in_place and isinstance(result, torch.nn.Parameter):
            return  # a new value of the parameter is no other tensor
        if isinstance(result, torch.Tensor):
            if not in_place and any(result is tensor for tensor in given):
                return  # `.to()` that had nothing to do, `contiguous()`, ...
            node = self._node(func, name, args, kwargs, result)
            self._remember(result, node)
            if in_place:
                self._written(result, node)
            return
        node = self._node(func, name, args, kwargs, next(tensors_of(result)))
        if isinstance(result, (tuple, list)):
            for index, part in enumerate(result):
                if isinstance(part, torch.Tensor):
                    self._remember(part, self._node(operator.getitem, "pick", (node, index), {}, part))
        else:
            for part in tensors_of(result):
                self._remember(part, node)

    def _node(
        self, func: Any, name: str, args: tuple[Any, ...], kwargs: dict[str, Any], first: torch.Tensor
    ) -> torch.fx.Node:
        node = self.graph.call_function(func, self._as_nodes(args), self._as_nodes(kwargs))
        node.meta = {
            "name": name,
            "module": self._running[-1],
            "place": calling_place(),
            "cut": not self._differentiable and (name in ops.FLAT or not torch.is_grad_enabled()),
        }
        _describe(node, first)
        return node

    def _as_nodes(self, value: Any) -> Any:
        """`value` with every tensor replaced by the node that made it."""
        if isinstance(value, torch.Tensor):
            return self._source(value)
        if isinstance(value, (tuple, list)):
            return (
                type(value)(map(self._as_nodes, value))
                if type(value) in (tuple, list)
                else tuple(map(self._as_nodes, value))
            )
        if isinstance(value, dict):
            return {key: self._as_nodes(item) for key, item in value.items()}
        if isinstance(value, slice):
            return slice(*(self._as_nodes(part) for part in (value.start, value.stop, value.step)))
        return value

    def _source(self, tensor: torch.Tensor) -> torch.fx.Node:
        node = self._nodes.get(id(tensor))
        if node is None:
            name = self._names.get(id(tensor))
            node = self.graph.create_node("get_attr", name or f"constant_{len(self._nodes)}")
            kind = "parameter" if name else "constant"
            node.meta = {"name": kind, "module": self._running[-1], "place": "", "target": name or ""}
            _describe(node, tensor)
            self._remember(tensor, node)
        return node

    def _remember(self, tensor: torch.Tensor, node: torch.fx.Node) -> None:
        if id(tensor) not in self._nodes:
            self._alive.setdefault(_storage(tensor), []).append(tensor)
        self._nodes[id(tensor)] = node

    def _written(self, tensor: torch.Tensor, node: torch.fx.Node) -> None:
        """An op wrote into `tensor`: what shows the same memory has a new value too, what shows more of it, in part."""
        for other in self._alive[_storage(tensor)]:
            if other is tensor or other.numel() < tensor.numel():
                continue
            if _layout(other) == _layout(tensor):
                self._nodes[id(other)] = node
            elif other.numel() > tensor.numel():
                changed = self.graph.call_function(operator.setitem, (self._nodes[id(other)], node))
                changed.meta = node.meta | {"name": "setitem"}
                _describe(changed, other)
                self._nodes[id(other)] = changed

    # --- both ends ------------------------------------------------------------------------

    def inputs(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        """Make a placeholder of every tensor in the example call, named by the way to it."""
        with torch._C.DisableTorchFunction():
            for name, tensor in named_tensors((*args, dict(kwargs))):
                if id(tensor) in self._nodes:
                    continue
                node = self.graph.placeholder("input_" + re.sub(r"\W", "_", name))
                node.meta = {"name": "input", "module": "", "place": "", "target": name}
                _describe(node, tensor)
                self._remember(tensor, node)

    def output(self, result: Any) -> None:
        """Close the graph with the tensors that the model returned."""
        with torch._C.DisableTorchFunction():
            found = tuple(self._source(tensor) for _, tensor in named_tensors(result))
        node = self.graph.output(found)
        node.meta = {"name": "output", "module": "", "place": ""}


@contextmanager
def _seeing_compiled_functions() -> Iterator[None]:
    """While active, what is compiled or scripted runs as the Python it was made from, op by op."""
    script: Any = torch._C.ScriptFunction
    before = script.__call__

    def inlined(self: Any, *args: Any, **kwargs: Any) -> Any:
        python = getattr(self, "_torchdynamo_inline", None)  # torch keeps the function here; one of a file has none
        return python(*args, **kwargs) if python else before(self, *args, **kwargs)

    with torch.compiler.set_stance("force_eager"):
        setattr(script, "__call__", inlined)  # noqa: B010
        try:
            yield
        finally:
            setattr(script, "__call__", before)  # noqa: B010


def function_name(func: Any) -> str:
    """The field's name of a torch function: `__radd__`, `add_` and `add` are all `add`."""
    if isinstance(func, torch._ops.OpOverload):
        func = func.overloadpacket
    name: str = getattr(func, "__name__", "") or type(func).__name__
    if name in ("__get__", "__set__"):
        return getattr(getattr(func, "__self__", None), "__name__", name)
    if name.startswith("__") and name.endswith("__"):
        name = name[2:-2]
        return _REFLECTED.get(name, name)
    return name.rstrip("_") or name


_REFLECTED = {
    prefix + name: name
    for prefix in ("r", "i")
    for name in ("add", "sub", "mul", "truediv", "div", "floordiv", "pow", "matmul", "mod", "and", "or", "xor")
} | {"truediv": "div", "rtruediv": "div", "itruediv": "div", "rsub": "rsub", "rdiv": "rdiv", "rpow": "rpow"}


def is_in_place(func: Any, name: str, kwargs: Mapping[str, Any]) -> bool:
    """Whether a call writes into a tensor it is given: `add_`, `+=`, `inplace=True`, `out=`."""
    raw = getattr(func, "__name__", "")
    return (
        name == "setitem"
        or (raw.endswith("_") and not raw.endswith("__"))
        or (raw.startswith("__i") and raw[3:-2] in _REFLECTED.values())
        or bool(kwargs.get("inplace"))
        or kwargs.get("out") is not None
    )


def _storage(tensor: torch.Tensor) -> int:
    """What views of one memory share; a tensor without any (sparse, wrapped by `vmap`) is its own."""
    try:
        return tensor.untyped_storage()._cdata
    except (NotImplementedError, RuntimeError):
        return id(tensor)


def _layout(tensor: torch.Tensor) -> tuple[Any, ...]:
    """Which part of its memory a tensor shows."""
    return tensor.shape, tensor.stride(), tensor.storage_offset()


def _describe(node: torch.fx.Node, tensor: torch.Tensor) -> None:
    node.meta["shape"] = tuple(tensor.shape)
    node.meta["dtype"] = str(tensor.dtype).removeprefix("torch.")
