"""What every adapter method says of itself."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

from surgery.graph import Module
from surgery.methods.geometry import Geometry, geometry
from surgery.methods.setting import Setting, Value

_FAR = 4.0


class Method(ABC):
    """An adapter method of PEFT.

    `peft_type` is PEFT's name for it, `config` the class of its configuration in `peft`, `prefix` what the
    names of its parameters begin with, `zero_at_start` those that start as zeros and so make a fresh adapter add
    nothing. `unsupported` maps the other fields of that class to why a spec may
    not set them. `settings` given to the methods below are resolved: every setting, under the user's name.
    """

    name: ClassVar[str]
    peft_type: ClassVar[str]
    config: ClassVar[str]
    prefix: ClassVar[str]
    zero_at_start: ClassVar[tuple[str, ...]]
    settings: ClassVar[tuple[Setting, ...]]
    unsupported: ClassVar[Mapping[str, str]]

    def setting(self, name: str) -> Setting | None:
        """A setting by the user's name for it or by PEFT's."""
        return next((setting for setting in self.settings if name in (setting.name, setting.field)), None)

    def unsupported_value(self, setting: Setting, value: object) -> str | None:
        """Why a value that PEFT accepts for this setting is not supported here, or None."""
        return None

    def fields(self, settings: Mapping[str, Any]) -> dict[str, Any]:
        """Resolved settings under the names of PEFT's configuration class."""
        return {setting.field: settings[setting.name] for setting in self.settings}

    def per_adapter(self, settings: Mapping[str, Any]) -> dict[str, Any]:
        """The settings that all modules of one PEFT adapter share: all but the per-site ones."""
        return {setting.name: settings[setting.name] for setting in self.settings if not setting.per_site}

    def refusal(self, module: Module, settings: Mapping[str, Any]) -> str | None:
        """Why this method cannot adapt this module with these settings, or None."""
        sizes = geometry(module)
        return sizes if isinstance(sizes, str) else self.refusal_of(module, sizes, settings)

    def added(self, module: Module, settings: Mapping[str, Any]) -> int:
        """How many parameters the adapter of this module has. The module must not be refused."""
        sizes = geometry(module)
        assert isinstance(sizes, Geometry), f"{module.path}: {sizes}"
        return self.added_to(sizes, settings)

    def advice(self, module: Module, settings: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
        """Known advice that these settings go against: codes of lints, each with what is wrong."""
        sizes = geometry(module)
        if isinstance(sizes, Geometry):
            yield from self.advice_on(sizes, settings)

    @abstractmethod
    def refusal_of(self, module: Module, sizes: Geometry, settings: Mapping[str, Any]) -> str | None: ...

    @abstractmethod
    def added_to(self, sizes: Geometry, settings: Mapping[str, Any]) -> int: ...

    @abstractmethod
    def advice_on(self, sizes: Geometry, settings: Mapping[str, Any]) -> Iterator[tuple[str, str]]: ...

    @abstractmethod
    def scale(self, module: Module, settings: Mapping[str, Any]) -> float:
        """The factor on the adapter's product."""

    @abstractmethod
    def is_identity(self, settings: Mapping[str, Any]) -> bool:
        """Whether a fresh adapter adds exact zeros, so that the adapted model starts as the base model."""


def alpha_advice(r: Value, alpha: Value) -> Iterator[tuple[str, str]]:
    """alpha / r scales the adapter's output; far from 1 it acts as a learning rate nobody chose."""
    ratio = float(alpha) / float(r)
    if not 1 / _FAR <= ratio <= _FAR:
        yield "W0903", f"alpha = {alpha} is far from r = {r}: the adapter is scaled by {ratio:g}"
