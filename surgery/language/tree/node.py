"""What all nodes of the syntax tree share."""

from __future__ import annotations


class Node:
    """What all nodes share. Written once here, as generating it for each of them takes time at every start."""

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and vars(self) == vars(other)

    def __hash__(self) -> int:
        return hash((type(self), *vars(self).values()))

    def __repr__(self) -> str:
        values = ", ".join(f"{name}={value!r}" for name, value in vars(self).items() if name != "span")
        return f"{type(self).__name__}({values})"
