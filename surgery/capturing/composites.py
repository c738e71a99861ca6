"""Functions that are several ops in one, taken apart, so that no analysis has to know them."""

from __future__ import annotations

from typing import Any

import torch
from torch.fx import Graph, Node

_OPERANDS = ("input", "tensor1", "tensor2", "end", "weight")  # in the order of the signatures


def split_composites(graph: Graph) -> None:
    """Rewrite a recorded graph in place: `addcmul`, `lerp` and the like as sums and products, plain einsums by name."""
    for node in list(graph.nodes):
        name = node.meta["name"]
        operands = (*node.args, *(node.kwargs[key] for key in _OPERANDS if key in node.kwargs))
        if name in ("addcmul", "addcdiv") and len(operands) >= 3:
            base, one, other = operands[:3]
            product = _before(node, name.removeprefix("addc"), one, other)
            _become(node, "add", base, product)
        elif name == "lerp" and len(operands) == 3:
            start, end, weight = operands
            step = _before(node, "mul", weight, _before(node, "sub", end, start))
            _become(node, "add", start, step)
        elif name == "einsum":
            node.meta["name"] = _einsum(node)


def _before(node: Node, name: str, *operands: Any) -> Node:
    """A new op just before `node`, of the size that its operands broadcast to."""
    with node.graph.inserting_before(node):
        made = node.graph.call_function(getattr(torch, name), operands)
    shapes = [operand.meta["shape"] for operand in operands if isinstance(operand, Node)]
    made.meta = node.meta | {"name": name, "shape": tuple(torch.broadcast_shapes(*shapes))}
    return made


def _become(node: Node, name: str, *operands: Any) -> None:
    node.args, node.kwargs = operands, {}
    node.meta["name"] = name


def _einsum(node: Node) -> str:
    """What an einsum is: of one operand a reordering, of letters that are all in the result a product by elements."""
    operands = node.all_input_nodes
    if len(operands) == 1:
        return "permute"
    equation = node.args[0] if node.args else None
    if not isinstance(equation, str) or "->" not in equation:
        return "einsum"
    given, result = equation.replace(" ", "").split("->")
    return "mul" if set(given) - {",", "."} <= set(result) else "einsum"
