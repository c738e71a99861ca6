"""What PEFT's own configuration classes say of its methods, as data: PEFT itself is not imported.

`catalogue.json` is written from the installed PEFT by `make goldens`; a test compares it with the installed one.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from surgery.methods.setting import Setting, Type, Value

FILE = Path(__file__).with_name("catalogue.json")


@dataclass(frozen=True)
class Field:
    """A field of a configuration class: its default (None also where it is made by a factory), and whether None is one
    of its values by its annotation."""

    default: Any
    optional: bool


@dataclass(frozen=True)
class Entry:
    """A method as PEFT registers it.

    `config` is the class of its configuration in `peft`, `prefix` what the names of its parameters begin with,
    `mixes` whether `PeftMixedModel` takes it beside other methods.
    """

    config: str
    prefix: str
    mixes: bool
    fields: dict[str, Field]


def _read() -> dict[str, Entry]:
    entries = json.loads(FILE.read_text(encoding="utf-8"))["methods"]
    return {
        name: Entry(**{**entry, "fields": {field: Field(**value) for field, value in entry["fields"].items()}})
        for name, entry in entries.items()
    }


CATALOGUE = _read()


def settings_of(peft_type: str) -> Callable[..., Setting]:
    """Makes the settings of one method: `setting(field, type, doc)`, with the default of PEFT's configuration class.

    `name` is the user's name where it is not PEFT's; the rest is as in `Setting`.
    """

    def setting(
        field: str,
        type: Type,
        doc: str,
        *,
        name: str = "",
        choices: tuple[Value, ...] = (),
        pattern: str = "",
        optional: bool = False,
        also: tuple[int, ...] = (),
    ) -> Setting:
        default = CATALOGUE[peft_type].fields[field].default
        return Setting(name or field, field, type, default, doc, choices, pattern, optional, also)

    return setting
