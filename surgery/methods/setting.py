"""One setting of a method: its names, its type, its bounds, its default."""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite
from typing import Literal, TypeAlias, TypeGuard

Value: TypeAlias = "int | float | bool | str | list[int] | None"
Type: TypeAlias = Literal["int", "count", "counts", "number", "probability", "share", "bool", "choice"]

EVERYWHERE, NOWHERE = ".*", "(?!)"  # expressions that match every module, and none


@dataclass(frozen=True)
class Setting:
    """A setting of a method, as the user names it (`name`) and as PEFT does (`field`).

    `type`: `int` is at least 1, `count` at least 0, `counts` a list of those, `number` is above 0, `probability` in
    [0, 1), `share` in [0, 1], `choice` one of `choices`. With `optional`, `none` is a value too, and
    so are those in `also`. A setting without a default that it accepts is `required`. `pattern` is the
    field of PEFT's configuration that lets the setting differ between the modules of one adapter; a setting without
    one forces an adapter of its own. Where PEFT has no field for a `bool` but one expression that names the modules
    where it holds, `field` is empty and `pattern` is the field of that expression.
    """

    name: str
    field: str
    type: Type
    default: Value
    doc: str
    choices: tuple[Value, ...] = ()
    pattern: str = ""
    optional: bool = False
    also: tuple[int, ...] = ()

    @property
    def per_site(self) -> bool:
        """Whether the modules of one PEFT adapter may have different values."""
        return bool(self.pattern)

    @property
    def required(self) -> bool:
        """Whether a spec has to set it."""
        return not self.accepts(self.default)

    @property
    def wanted(self) -> str:
        """What a value must be, in words."""
        wanted = {
            "int": "a whole number, 1 or more",
            "count": "a whole number, 0 or more",
            "counts": "a list of whole numbers, 0 or more",
            "number": "a number above 0",
            "probability": "a number from 0 up to, not including, 1",
            "share": "a number from 0 to 1",
            "bool": "true or false",
            "choice": "one of " + ", ".join(as_text(choice) for choice in self.choices),
        }[self.type]
        return ", or ".join([wanted, *map(as_text, self.also), *["none"] * self.optional])

    def accepts(self, value: object) -> bool:
        if value in self.also and type(value) is int:
            return True
        if value is None:
            return self.optional or (self.type == "choice" and None in self.choices)
        if self.type == "choice":
            # 1 == True in Python, but `init = 1` is not `init = true`.
            return any(value == choice and type(value) is type(choice) for choice in self.choices)
        if self.type == "bool":
            return isinstance(value, bool)
        if self.type == "counts":
            return isinstance(value, list) and all(_is_whole(item) and item >= 0 for item in value)
        if self.type in ("int", "count"):
            return _is_whole(value) and value >= (self.type == "int")
        if not _is_number(value):
            return False
        return {"number": value > 0, "probability": 0 <= value < 1, "share": 0 <= value <= 1}[self.type]

    def normalise(self, value: Value) -> Value:
        """The value in one form, so that `16.0` and `16` are the same setting."""
        if isinstance(value, list):
            return [int(item) for item in value]
        if self.type in ("probability", "share") and value is not None:
            return float(value)
        whole = isinstance(value, float) and value.is_integer()
        return int(value) if whole else value  # type: ignore[arg-type]


def _is_number(value: object) -> TypeGuard[int | float]:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and isfinite(value)


def _is_whole(value: object) -> TypeGuard[int | float]:
    return _is_number(value) and float(value).is_integer()


def as_text(value: object) -> str:
    """A value as a `.surg` file writes it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if value is None:
        return "none"
    return f'"{value}"' if isinstance(value, str) else str(value)
