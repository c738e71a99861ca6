"""What every adapter method says of itself."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any, ClassVar, Literal, TypeAlias

from surgery.graph import Module
from surgery.methods.catalogue import CATALOGUE
from surgery.methods.geometry import Geometry, geometry
from surgery.methods.quantised import quantised_refusal
from surgery.methods.reasons import BY_SURGERY
from surgery.methods.setting import EVERYWHERE, NOWHERE, Setting

Start: TypeAlias = Literal["exact", "close", "none"]
_FAR = 4.0


class Method:
    """An adapter method of PEFT.

    `peft_type` is PEFT's name for it, `layers` the kinds of layers that it adapts, `starts_at` the parameters
    that a fresh adapter holds at one value, which makes it add nothing (by their container's name). `refused_fields`
    maps fields of PEFT's configuration that a spec may not set to why not. `several` says whether one model can
    carry two trained adapters of it. `shared_parameters` are the containers of PEFT's layers whose parameters all
    layers of an adapter use together: `shared` counts them, `added` does not. `resized` names settings that
    PEFT's layers keep as what came of them for their sizes. `copies` says whether PEFT copies a module whole, with the
    modules inside of it. `settings` given to the methods below are resolved: every setting, under the user's name.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    paper: ClassVar[str]
    peft_type: ClassVar[str]
    layers: ClassVar[tuple[str, ...]] = ("Linear",)
    settings: ClassVar[tuple[Setting, ...]]
    starts_at: ClassVar[Mapping[str, float]] = {}
    refused_fields: ClassVar[Mapping[str, str]] = {}
    several: ClassVar[bool] = True
    resized: ClassVar[tuple[str, ...]] = ()
    copies: ClassVar[bool] = False
    shared_parameters: ClassVar[tuple[str, ...]] = ()

    @property
    def config(self) -> str:
        """The class of its configuration in `peft`."""
        return CATALOGUE[self.peft_type].config

    @property
    def prefix(self) -> str:
        """What the names of its parameters begin with."""
        return CATALOGUE[self.peft_type].prefix

    @property
    def mixes(self) -> bool:
        """Whether PEFT takes it beside other methods in one model."""
        return CATALOGUE[self.peft_type].mixes

    @property
    def has_scale(self) -> bool:
        """Whether it has a factor on its update: without one, `scale` is 1 for every module."""
        return type(self).scale is not Method.scale

    @cached_property
    def unsupported(self) -> dict[str, str]:
        """The fields of PEFT's configuration that a spec may not set, each with the reason."""
        fields = CATALOGUE[self.peft_type].fields
        return {field: reason for field, reason in {**BY_SURGERY, **self.refused_fields}.items() if field in fields}

    def setting(self, name: str) -> Setting | None:
        """A setting by the user's name for it or by PEFT's."""
        return next((setting for setting in self.settings if name in (setting.name, setting.field)), None)

    def unsupported_value(self, setting: Setting, value: object) -> str | None:
        """Why a value that PEFT accepts for this setting is not supported here, or None."""
        return None

    def conflict(self, settings: Mapping[str, Any]) -> str | None:
        """Why these values cannot be set together, on any module, or None."""
        return None

    def fields(self, settings: Mapping[str, Any]) -> dict[str, Any]:
        """Resolved settings under the names of PEFT's configuration class, the same for all modules of an adapter."""
        values = {setting.field: settings[setting.name] for setting in self.settings if setting.field}
        by_pattern = (setting for setting in self.settings if not setting.field)
        return values | {setting.pattern: EVERYWHERE if settings[setting.name] else NOWHERE for setting in by_pattern}

    def per_adapter(self, settings: Mapping[str, Any]) -> dict[str, Any]:
        """The settings that all modules of one PEFT adapter share: all but the per-site ones."""
        return {setting.name: settings[setting.name] for setting in self.settings if not setting.per_site}

    def refusal(self, module: Module, settings: Mapping[str, Any]) -> str | None:
        """Why this method cannot adapt this module with these settings, or None."""
        sizes = geometry(module)
        if isinstance(sizes, str):
            return sizes
        if sizes.layer not in self.layers:
            *others, last = self.layers
            kinds = f"{', '.join(others)} and {last}" if others else last
            return f"PEFT's {self.title} adapts {kinds}, not {sizes.layer}"
        if reason := quantised_refusal(self.name, self.title, sizes.bits, self.needs_floats(settings)):
            return reason
        return self.refusal_of(module, sizes, settings)

    def added(self, module: Module, settings: Mapping[str, Any]) -> int:
        """How many parameters the adapter of this module has. The module must not be refused."""
        sizes = geometry(module)
        assert isinstance(sizes, Geometry), f"{module.path}: {sizes}"
        return self.added_to(sizes, settings)

    def frozen(self, module: Module, settings: Mapping[str, Any]) -> int:
        """How many of the parameters that `added` counts are never trained (see `frozen_parameters`)."""
        sizes = geometry(module)
        return self.frozen_in(sizes, settings) if isinstance(sizes, Geometry) else 0

    def frozen_parameters(self, settings: Mapping[str, Any]) -> tuple[str, ...]:
        """The containers of PEFT's layers whose parameters stay as they start, saved with the adapter or not."""
        return ()

    def shared(self, modules: Sequence[Module], settings: Mapping[str, Any]) -> int:
        """How many parameters an adapter on these modules has beside those of its sites, which all of them use."""
        return 0

    def advice(self, module: Module, settings: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
        """Known advice that these settings go against: codes of lints, each with what is wrong."""
        sizes = geometry(module)
        if isinstance(sizes, Geometry):
            yield from self.advice_on(sizes, settings)

    def refusal_of(self, module: Module, sizes: Geometry, settings: Mapping[str, Any]) -> str | None:
        """As `refusal`, for a module of one of the method's `layers`."""
        return None

    def added_to(self, sizes: Geometry, settings: Mapping[str, Any]) -> int:
        """As `added`, from the layer's sizes. A method that counts by something else defines `added` itself."""
        raise NotImplementedError

    def frozen_in(self, sizes: Geometry, settings: Mapping[str, Any]) -> int:
        """As `frozen`, from the layer's sizes."""
        return 0

    def advice_on(self, sizes: Geometry, settings: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
        """As `advice`, from the layer's sizes."""
        yield from ()

    def scale(self, module: Module, settings: Mapping[str, Any]) -> float:
        """The factor on the adapter's update; 1 where the method has none."""
        return 1.0

    def start(self, settings: Mapping[str, Any]) -> Start:
        """Whether the adapted model starts as the base model: `exact`ly, up to rounding (`close`), or not (`none`)."""
        return "exact"

    def starts(self, settings: Mapping[str, Any]) -> Mapping[str, float]:
        """As `starts_at`, with these settings. A key is a container of PEFT's layer, or `container.parameter`."""
        return self.starts_at if self.start(settings) == "exact" else {}

    def saved_besides(self, settings: Mapping[str, Any]) -> str:
        """What PEFT writes into the adapter's file beside its parameters, or nothing."""
        return ""

    def merging(self, module: Module, settings: Mapping[str, Any]) -> str | None:
        """Why a trained adapter cannot be merged into this module's weights, or None."""
        return None

    def reads_weights(self, settings: Mapping[str, Any]) -> bool:
        """Whether start values are computed from the weights, so that they have to be there when applying."""
        return False

    def needs_floats(self, settings: Mapping[str, Any]) -> bool:
        """Whether it computes with the weight as stored, or takes its dtype, which a quantised one does not bear."""
        return self.reads_weights(settings)

    def writes_weights(self, settings: Mapping[str, Any]) -> bool:
        """Whether applying changes the base weights (and the adapter makes up for it)."""
        return False


def alpha_advice(r: int, alpha: float) -> Iterator[tuple[str, str]]:
    """alpha / r scales the adapter's output; far from 1 it acts as a learning rate nobody chose."""
    ratio = alpha / r
    if not 1 / _FAR <= ratio <= _FAR:
        yield "W0903", f"alpha = {alpha} is far from r = {r}: the adapter is scaled by {ratio:g}"
