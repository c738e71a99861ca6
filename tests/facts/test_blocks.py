"""Block families."""

from __future__ import annotations

from surgery.facts.blocks import blocks_of
from surgery.graph import Block, Module


def tree(**kinds: str) -> dict[str, Module]:
    paths = {"": "Model", **{path.replace("__", "."): kind for path, kind in kinds.items()}}
    return {path: Module(path, kind, (kind,)) for path, kind in paths.items()}


def test_the_outermost_family_counts() -> None:
    inside = {
        f"h__{i}__experts__{j}{end}": kind for i in (0, 1) for j in (0, 1) for end, kind in (("", "E"), ("__w", "L"))
    }
    modules = tree(h="List", h__0="Layer", h__0__experts="List", h__1="Layer", h__1__experts="List", **inside)
    blocks = blocks_of(modules)
    assert blocks["h.1.experts.0.w"] == Block("h.*", 1)
    assert "h" not in blocks


def test_a_sequence_of_different_layers_is_no_family() -> None:
    modules = tree(mlp="Sequential", mlp__0="Linear", mlp__1="SiLU", mlp__2="Linear")
    assert blocks_of(modules) == {}


def test_a_lone_block_is_no_family() -> None:
    assert blocks_of(tree(h="List", h__0="Layer", h__0__w="Linear")) == {}


def test_numbers_count_as_numbers() -> None:
    kinds = {f"h__{i}{end}": kind for i in (2, 10) for end, kind in (("", "Layer"), ("__w", "Linear"))}
    assert blocks_of(tree(h="List", **kinds))["h.10.w"] == Block("h.*", 10)
