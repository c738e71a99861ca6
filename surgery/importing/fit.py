"""Fitting an adapter from elsewhere to a plan: an exact bijection of tensors, or an error that says what differs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import isclose, isfinite
from typing import TYPE_CHECKING, Literal, TypeAlias

from safetensors import SafetensorError, safe_open

from surgery.diagnostics import Diagnostic, SurgeryError
from surgery.importing.arrangement import Arrangement, arrange
from surgery.importing.differences import ambiguous_readings, key_differences, listed, shape_differences, unfit
from surgery.importing.foreign import ForeignAdapter
from surgery.importing.matching import Matching, Spelled, match
from surgery.importing.scales import FOLDED, Scales, stated_scales
from surgery.importing.settings import Settings, differing, settings_of
from surgery.importing.slots import Shapes, Slot, slots_of
from surgery.planning.plan import Plan, Site

if TYPE_CHECKING:
    import torch

Scale: TypeAlias = Literal["file", "plan"] | float


@dataclass(frozen=True)
class Source:
    """Where the values of a slot come from: a key of the file, how it lies there, and a factor on it."""

    key: str
    arrangement: Arrangement
    factor: float


@dataclass(frozen=True)
class Fitted:
    """A file that fits a plan. `sources` has every tensor of the plan; no value has been read.

    `rescaled` maps sites to the factor by which the file's scale is another one than the plan's (it goes into one
    tensor of the site, so that the update stays the file's); `scale` says where the file's scales are from.
    """

    adapter: ForeignAdapter
    spelled: Spelled
    sources: Mapping[Slot, Source]
    rescaled: Mapping[str, float]
    scale: str

    def read(self) -> dict[str, dict[str, torch.Tensor]]:
        """The values on the CPU, by adapter and by key of its PEFT checkpoint, in the file's types.

        A rescaled tensor is multiplied in float64 and rounded once, to float32 or wider. Raises SurgeryError (E0501).
        """
        values: dict[str, dict[str, torch.Tensor]] = {}
        try:
            with safe_open(self.adapter.file, framework="pt") as opened:
                for slot, source in self.sources.items():
                    values.setdefault(slot.adapter, {})[slot.key] = _placed(opened.get_tensor(source.key), slot, source)
        except (OSError, SafetensorError) as error:
            raise SurgeryError(_gone(self.adapter, error)) from None
        return values


def fit(
    adapter: ForeignAdapter,
    plan: Plan,
    shapes: Shapes,
    *,
    only: str | None = None,
    scale: Scale = "file",
    strict: bool = False,
) -> Fitted:
    """Which tensor of the file fills which of the plan's: each of the file once, and each of the plan's once.

    `shapes` are those to fill, by adapter and by key of its PEFT checkpoint. `only` names a component of the file
    (`transformer`, `lora_unet`) whose tensors alone are meant. `scale` is the file's by default; `"plan"` takes the
    plan's for it, a number says it for a file that does not. Where file and plan are scaled differently the ratio goes
    into a tensor of the adapter; with `strict` that is an error. Raises SurgeryError: E0519 with all that differs.
    """
    keys = [key for key in adapter.tensors if only is None or key.startswith((f"{only}.", f"{only}_"))]
    slots = slots_of(plan, shapes)
    matching = _bijection(adapter, keys, slots)
    arranged = _arranged(adapter, matching)
    paths = {slot.path for slot in slots}
    sites = [site for site in plan.sites if site.adapter in shapes and site.path in paths]
    settings = settings_of(adapter.declared, matching.spelled)
    if isinstance(settings, str):
        raise SurgeryError(unfit(adapter, [settings]))
    if problems := list(differing(sites, settings, FOLDED)):
        raise SurgeryError(unfit(adapter, [listed("settings that differ", problems)], [_OTHER_SETTINGS]))
    scales = _scales(adapter, matching, settings, [site for site in sites if site.method in FOLDED], scale)
    rescaled = {
        site.full_path: scales.by_path[site.full_path] / site.scale
        for site in sites
        if site.full_path in scales.by_path and not isclose(scales.by_path[site.full_path], site.scale, rel_tol=1e-9)
    }
    if rescaled and (strict or any(site.parameter and site.full_path in rescaled for site in sites)):
        raise SurgeryError(unfit(adapter, [_rescaled_note(rescaled, sites, scales)], [_SAME_SCALE]))
    sources = {slot: _source(slot, key, arrangement, rescaled) for slot, (key, arrangement) in arranged.items()}
    return Fitted(adapter, matching.spelled, sources, rescaled, scales.source)


_OTHER_SETTINGS = "plan with the settings that the adapter was trained with"
_SAME_SCALE = "plan with the alpha of the file, or let the ratio go into the adapter: modules allow it, if not strict"


def _bijection(adapter: ForeignAdapter, keys: list[str], slots: list[Slot]) -> Matching:
    matching, *others = match(keys, slots)
    if others:
        notes = [listed("ambiguous", ambiguous_readings([matching, *others]))]
        raise SurgeryError(unfit(adapter, notes, ["rename the adapter's keys so that they have the plan's paths"]))
    notes, helps = key_differences(matching)
    if notes:
        raise SurgeryError(unfit(adapter, notes, helps))
    return matching


def _arranged(adapter: ForeignAdapter, matching: Matching) -> dict[Slot, tuple[str, Arrangement]]:
    keys = {slot: key for key, slots in matching.fills.items() for slot in slots}
    found = arrange({slot: adapter.tensors[key].shape for slot, key in keys.items()})
    notes, helps = shape_differences(adapter, {slot: keys[slot] for slot, how in found.items() if how is None})
    alphas = [key for [key] in matching.alphas.values()]
    single = [key for key in alphas if adapter.tensors[key].shape not in ((), (1,))]
    notes += [note for note in (listed("alphas that are no single number", single),) if note]
    other = [f"{key} {adapter.tensors[key].dtype}" for slot, key in keys.items() if _is_quantised(slot, adapter, key)]
    notes += [note for note in (listed("of a type that is no float", other),) if note]
    if notes:
        raise SurgeryError(unfit(adapter, notes, helps))
    return {slot: (keys[slot], how) for slot, how in found.items() if how is not None}


def _is_quantised(slot: Slot, adapter: ForeignAdapter, key: str) -> bool:
    """Whether a tensor of LoRA, LoHa or LoKr is stored as whole numbers; other methods have indices."""
    scaled = slot.site is not None and slot.site.method in FOLDED
    return scaled and not adapter.tensors[key].is_float


def _scales(
    adapter: ForeignAdapter, matching: Matching, settings: Settings | None, sites: list[Site], scale: Scale
) -> Scales:
    if scale == "plan":
        return Scales({}, "the plan's, as asked")
    if scale != "file":
        if not isinstance(scale, (int, float)) or not isfinite(scale):
            raise SurgeryError(unfit(adapter, [f"{scale} is no scale"], ["give alpha / r as a number"]))
        return Scales({site.full_path: float(scale) for site in sites}, "as asked")
    if not sites:
        return Scales({}, "as the settings of the adapter say; these methods have none in their tensors")
    stated = stated_scales(sites, matching, settings, _alphas(adapter, matching))
    if stated is None:
        if all(site.scale == 1 for site in sites):
            return Scales({}, "nothing says another one than the plan's 1")
        raise SurgeryError(_no_scale(adapter, sites))
    if stated.problems:
        raise SurgeryError(unfit(adapter, stated.problems))
    return stated


def _alphas(adapter: ForeignAdapter, matching: Matching) -> dict[str, float]:
    if not matching.alphas:
        return {}
    try:
        with safe_open(adapter.file, framework="pt") as opened:
            return {path: float(opened.get_tensor(key)) for path, [key] in matching.alphas.items()}
    except (OSError, SafetensorError) as error:
        raise SurgeryError(_gone(adapter, error)) from None


def _no_scale(adapter: ForeignAdapter, sites: Iterable[Site]) -> Diagnostic:
    planned = sorted({site.scale for site in sites})
    return unfit(
        adapter,
        ["nothing in or beside the file says its scale: there is no alpha and no adapter_config.json",
         f"the plan's is {', '.join(f'{value:g}' for value in planned[:4])}; ComfyUI and diffusers would take 1"],
        ["say it: `scale=\"plan\"` for an adapter trained with this plan, else alpha / r as a number, as `scale=1`"],
    )  # fmt: skip


def _rescaled_note(rescaled: Mapping[str, float], sites: Iterable[Site], scales: Scales) -> str:
    lines = [
        f"`{s.full_path}` by {scales.by_path[s.full_path]:g} for {s.scale:g}" for s in sites if s.full_path in rescaled
    ]
    return listed(f"scaled differently (the file's by {scales.source})", lines)


def _source(slot: Slot, key: str, arrangement: Arrangement, rescaled: Mapping[str, float]) -> Source:
    folds = slot.site is not None and slot.parameter in FOLDED.get(slot.site.method, ())
    return Source(key, arrangement, rescaled.get(slot.path, 1.0) if folds else 1.0)


def _placed(value: torch.Tensor, slot: Slot, source: Source) -> torch.Tensor:
    import torch

    if source.arrangement == "transposed":
        value = value.T
    if source.factor != 1.0:
        value = (value.double() * source.factor).to(torch.promote_types(value.dtype, torch.float32))
    return value.reshape(slot.shape)


def _gone(adapter: ForeignAdapter, error: Exception) -> Diagnostic:
    why = f"cannot read the adapter: {getattr(error, 'strerror', None) or error}"
    return Diagnostic("E0501", why, place=str(adapter.file), helps=("has it been replaced meanwhile? read it again",))
