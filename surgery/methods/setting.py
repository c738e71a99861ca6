"""One setting of a method: its names, its type, its bounds, its default."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

Value: TypeAlias = "int | float | bool | str"
Type: TypeAlias = Literal["int", "number", "probability", "bool", "choice"]


@dataclass(frozen=True)
class Setting:
    """A setting of a method, as the user names it and as PEFT does.

    `type`: `int` is at least 1, `number` is above 0, `probability` in [0, 1), `choice` one of `choices`.
    `per_site` settings may differ between the modules of one PEFT adapter; any other forces an adapter of its own.
    """

    name: str
    field: str
    type: Type
    default: Value
    doc: str
    choices: tuple[Value, ...] = ()
    per_site: bool = False

    @property
    def wanted(self) -> str:
        """What a value must be, in words."""
        return {
            "int": "a whole number, 1 or more",
            "number": "a number above 0",
            "probability": "a number from 0 up to, not including, 1",
            "bool": "true or false",
            "choice": "one of " + ", ".join(as_text(choice) for choice in self.choices),
        }[self.type]

    def accepts(self, value: object) -> bool:
        if self.type == "choice":
            # 1 == True in Python, but `init = 1` is not `init = true`.
            return any(value == choice and type(value) is type(choice) for choice in self.choices)
        if self.type == "bool":
            return isinstance(value, bool)
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            return False
        if self.type == "int":
            return float(value).is_integer() and value >= 1
        if self.type == "number":
            return 0 < value < float("inf")
        return 0 <= value < 1

    def normalise(self, value: Value) -> Value:
        """The value in one form, so that `16.0` and `16` are the same setting."""
        if self.type == "probability":
            return float(value)
        whole = isinstance(value, float) and value.is_integer()
        return int(value) if whole else value


def as_text(value: object) -> str:
    """A value as a `.surg` file writes it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if value is None:
        return "none"
    return f'"{value}"' if isinstance(value, str) else str(value)
