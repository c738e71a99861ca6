"""By how much a file scales the update of each module, and where it says so.

PEFT: alpha / r, or alpha / sqrt(r) with rsLoRA, with patterns per module. kohya, LyCORIS and ComfyUI: a tensor `.alpha`
over the rank; where it is absent their readers, like diffusers', take a scale of 1 (`comfy/lora.py`,
`diffusers/utils/peft_utils.py:get_peft_kwargs`). LyCORIS' LoKr with two full factors has no rank, and a scale of 1.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isclose, sqrt

from surgery.importing.matching import Matching
from surgery.importing.settings import Settings
from surgery.planning.plan import Site

# Methods whose update is scaled, and linear in the tensors named, so that another scale can be put into them.
FOLDED = {
    "lora": ("lora_B.weight", "lora_B.bias", "lora_embedding_B"),
    "loha": ("hada_w1_a",),
    "lokr": ("lokr_w2", "lokr_w2_a"),
}
NO_ALPHA = "no alpha, which the readers of such files take as a scale of 1"
_LOKR_RANKED = ("lokr_w1_b", "lokr_w2_b")
_LARGEST = 3.4e38  # of single precision, nearly
_HALF = 1e-3  # an alpha may be stored in half precision
# Formats whose readers take a missing alpha as a scale of 1: by what is before the paths, or by the parameters.
_COMPONENT = re.compile(r"(model\.)?diffusion_model\.|(transformer|unet|text_encoder)(_\d)?\.|text_encoders\..+\.")
_KOHYA = re.compile(r"(lora_|_lora\.|\.lora\.|lora_linear_layer\.)(down|up)\.weight$")


@dataclass(frozen=True)
class Scales:
    """The scale of each site as the file has it, where it says so, and what it says that cannot be."""

    by_path: Mapping[str, float]
    source: str
    problems: tuple[str, ...] = ()


def stated_scales(
    sites: Sequence[Site], matching: Matching, settings: Settings | None, alphas: Mapping[str, float]
) -> Scales | None:
    """The scales of the sites by the settings beside the tensors or by alphas; None where nothing says them."""
    ranked = _ranked(sites, matching)
    by_alpha = {s.full_path: _by_alpha(s, alphas[s.path], s.path in ranked) for s in sites if s.path in alphas}
    problems = [f"the alpha of `{path}` is {value:g}" for path, value in alphas.items() if not abs(value) <= _LARGEST]
    if settings is not None:
        values = {site.full_path: _by_settings(site, settings, site.path in ranked) for site in sites}
        by_config = {path: value for path, value in values.items() if isinstance(value, float)}
        problems += [value for value in values.values() if isinstance(value, str)]
        problems += [
            f"`{path}` is scaled by {by_config[path]:g} by {settings.source}, by {value:g} by its alpha"
            for path, value in by_alpha.items()
            if path in by_config and not isclose(by_config[path], value, rel_tol=_HALF)
        ]
        return Scales(by_config, settings.source, tuple(problems))
    if by_alpha:
        source = "`.alpha`" + ("" if len(by_alpha) == len(sites) else f"; elsewhere {NO_ALPHA}")
        return Scales({site.full_path: by_alpha.get(site.full_path, 1.0) for site in sites}, source, tuple(problems))
    return Scales({site.full_path: 1.0 for site in sites}, NO_ALPHA) if _read_without_alpha(matching) else None


def _ranked(sites: Sequence[Site], matching: Matching) -> set[str]:
    """The sites whose tensors have a rank: all but LoKr's of two full factors."""
    lokr = {slot.path for slot in matching.slots if slot.parameter in _LOKR_RANKED}
    return {site.path for site in sites if site.method != "lokr" or site.path in lokr}


def _by_alpha(site: Site, alpha: float, ranked: bool) -> float:
    return alpha / float(site.settings["r"]) if ranked else 1.0


def _read_without_alpha(matching: Matching) -> bool:
    spelled = matching.spelled
    return spelled.underscored or bool(_COMPONENT.match(spelled.prefix)) or any(map(_KOHYA.search, matching.fills))


def _by_settings(site: Site, settings: Settings, ranked: bool) -> float | str:
    """The scale of one site by PEFT's settings, or what is wrong with them."""
    values = settings.at(site.full_path)
    r, alpha = values.get("r"), values.get("lora_alpha" if site.method == "lora" else "alpha")
    unusable = f"{settings.source} has no rank and alpha for `{site.full_path}`: r = {r!r}, alpha = {alpha!r}"
    if not isinstance(r, int) or not isinstance(alpha, (int, float)):
        return unusable
    if not 1 <= r <= _LARGEST or not abs(alpha) <= _LARGEST:
        return unusable
    if ranked and r != site.settings["r"]:
        return f"{settings.source} says r = {r} for `{site.full_path}`, its tensors have rank {site.settings['r']}"
    return float(alpha / (sqrt(r) if values.get("use_rslora") else r))
