"""The model as data: module tree, op graph, facts, and the file that holds them. Imports no torch."""

from surgery.graph.model import (
    NO,
    ROLES,
    Answer,
    Block,
    Fact,
    Graph,
    Header,
    Init,
    InitValue,
    Module,
    Node,
    Parameter,
    is_inside,
)

__all__ = [
    "NO",
    "ROLES",
    "Answer",
    "Block",
    "Fact",
    "Graph",
    "Header",
    "Init",
    "InitValue",
    "Module",
    "Node",
    "Parameter",
    "is_inside",
]
