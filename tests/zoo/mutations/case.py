"""What a mutation is: changes of a package's source, and the changes of facts that have to follow."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from surgery.graph import ROLES

Change = tuple[str, str]  # a fact's answer before and after
Changes = Mapping[str, Mapping[str, Change]]  # pattern of module paths -> fact -> change

GAINED: Change = ("no", "yes")
LOST: Change = ("yes", "no")
KNOWN: Change = ("unknown", "yes")


@dataclass(frozen=True)
class Edit:
    """`old` becomes `new` in the source of `module`; it has to occur exactly `times` times.

    Text with a line break stands for whole lines, at whatever indentation; other text for any part of a line.
    """

    module: str
    old: str
    new: str
    times: int = 1


@dataclass(frozen=True)
class Citation:
    """The evidence of a module's fact has to point at a line of the mutant that contains `text`."""

    path: str
    fact: str
    text: str


@dataclass(frozen=True)
class Mutation:
    """One change of one model's source.

    `changes` are all facts that may change, and have to. `added` are modules that the original lacks, with all their
    facts; `removed` those that the mutant lacks. `renamed` says as what a part of a path goes on.
    """

    model: str
    kind: str
    edits: tuple[Edit, ...]
    changes: Changes = field(default_factory=dict)
    added: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    removed: tuple[str, ...] = ()
    renamed: tuple[str, str] | None = None
    cites: tuple[Citation, ...] = ()

    @property
    def name(self) -> str:
        return f"{self.model}: {self.kind}"


MUTATIONS: list[Mutation] = []


def mutation(model: str, kind: str, *edits: Edit, **expected: object) -> None:
    """Register a mutation; `expected` are the other fields of Mutation."""
    found = Mutation(model, kind, edits, **expected)  # type: ignore[arg-type]
    assert found.name not in [other.name for other in MUTATIONS], found.name
    MUTATIONS.append(found)


def not_called(*roles: str, calls: int = 1, gradient: str = "yes") -> dict[str, Change]:
    """The facts of a module that nothing calls any more; `roles` are those it had, `calls` and `gradient` as before."""
    return {"unreached": GAINED, **_without_a_call(calls, gradient), **{f"role {role}": LOST for role in roles}}


def maybe_called(*roles: str, calls: int = 1, gradient: str = "yes") -> dict[str, Change]:
    """The facts of a module that only another call than the example's may reach."""
    every = {f"role {role}": ("yes" if role in roles else "no", "unknown") for role in ROLES}
    return {"unreached": ("no", "unknown"), **_without_a_call(calls, gradient), **every}


def _without_a_call(calls: int, gradient: str) -> dict[str, Change]:
    changes = {"calls": (str(calls), "0"), "gradient": (gradient, "unknown")}
    return {fact: (before, after) for fact, (before, after) in changes.items() if before != after}
