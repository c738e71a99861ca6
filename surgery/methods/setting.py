"""One setting of a method: its names, its type, its bounds, its default."""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite
from typing import Literal, TypeAlias

Value: TypeAlias = "int | float | bool | str | None"
Type: TypeAlias = Literal["int", "count", "number", "probability", "bool", "choice"]


@dataclass(frozen=True)
class Setting:
    """A setting of a method, as the user names it (`name`) and as PEFT does (`field`).

    `type`: `int` is at least 1, `count` at least 0, `number` is above 0, `probability` in [0, 1), `choice` one of
    `choices`. With `optional`, `none` is a value too. `pattern` is the field of PEFT's configuration that lets the
    setting differ between the modules of one adapter; a setting without one forces an adapter of its own.
    """

    name: str
    field: str
    type: Type
    default: Value
    doc: str
    choices: tuple[Value, ...] = ()
    pattern: str = ""
    optional: bool = False

    @property
    def per_site(self) -> bool:
        """Whether the modules of one PEFT adapter may have different values."""
        return bool(self.pattern)

    @property
    def wanted(self) -> str:
        """What a value must be, in words."""
        wanted = {
            "int": "a whole number, 1 or more",
            "count": "a whole number, 0 or more",
            "number": "a number above 0",
            "probability": "a number from 0 up to, not including, 1",
            "bool": "true or false",
            "choice": "one of " + ", ".join(as_text(choice) for choice in self.choices),
        }[self.type]
        return f"{wanted}, or none" if self.optional else wanted

    def accepts(self, value: object) -> bool:
        if value is None:
            return self.optional or (self.type == "choice" and None in self.choices)
        if self.type == "choice":
            # 1 == True in Python, but `init = 1` is not `init = true`.
            return any(value == choice and type(value) is type(choice) for choice in self.choices)
        if self.type == "bool":
            return isinstance(value, bool)
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not isfinite(value):
            return False
        if self.type in ("int", "count"):
            return float(value).is_integer() and value >= (self.type == "int")
        return value > 0 if self.type == "number" else 0 <= value < 1

    def normalise(self, value: Value) -> Value:
        """The value in one form, so that `16.0` and `16` are the same setting."""
        if self.type == "probability" and value is not None:
            return float(value)
        whole = isinstance(value, float) and value.is_integer()
        return int(value) if whole else value  # type: ignore[arg-type]


def as_text(value: object) -> str:
    """A value as a `.surg` file writes it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if value is None:
        return "none"
    return f'"{value}"' if isinstance(value, str) else str(value)
