"""An adapter apart from any model: what it does at each site, and its tensors."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from surgery.planning.plan import Site
from surgery.planning.swapping import rank_of


@dataclass(frozen=True)
class Applied:
    """How an adapter is applied at one site: its settings, under the names of a spec, and its effective scale.

    `rank` is the size of its tensors that may be padded; 1 for a method that has none.
    """

    settings: Mapping[str, Any]
    scale: float
    rank: int


@dataclass(frozen=True)
class Adapter:
    """`sites` by module path, `tensors` by the keys of `adapter_model.safetensors`, each at the adapter's own rank."""

    sites: Mapping[str, Applied]
    tensors: Mapping[str, torch.Tensor]


def as_planned(sites: Iterable[Site]) -> dict[str, Applied]:
    """What a plan says of its sites."""
    return {site.path: Applied(site.settings, site.scale, rank_of(site)) for site in sites}
