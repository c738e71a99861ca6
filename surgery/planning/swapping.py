"""Whether the adapter of one plan can be swapped into a model that was prepared for another: from their locks alone."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from surgery.diagnostics import Diagnostic
from surgery.graph import Init, Module, Parameter
from surgery.methods import METHODS
from surgery.methods.lokr import LOKR
from surgery.planning.lock import Lock, LockedSite
from surgery.planning.plan import Plan, Site
from surgery.planning.words import some, value_text

# The methods whose factors compute the same with zeros beyond their rank, and whose update a scale of 0 removes.
_RANKED = ("lora", "loha", "lokr")
# What may differ between two adapters of one prepared model: rank and scale are swapped, the rest acts in training
# or before it. Dropout stays the prepared model's.
_VARIANTS = ("dora", "bdlora", "velora")
_FREE = frozenset({"r", "alpha", "rslora", "init", "dropout", "rank_dropout", "rank_dropout_scale", "module_dropout"})


@dataclass(frozen=True)
class Obstacle:
    """A reason why an adapter cannot be swapped in, and the modules that it holds for; none if it is the whole."""

    reason: str
    paths: tuple[str, ...] = ()


@dataclass(frozen=True)
class Readiness:
    """Whether one adapter can be swapped into a model prepared for another one.

    `max_rank` is the rank that every prepared module is padded to, `padding` how many of these ranks the adapter
    leaves zero, by module. `silent` are the prepared modules that it does not adapt: they get zeros.
    """

    max_rank: int
    padding: Mapping[str, int]
    silent: tuple[str, ...]
    obstacles: tuple[Obstacle, ...]

    @property
    def ready(self) -> bool:
        return not self.obstacles

    def to_json(self) -> dict[str, Any]:
        obstacles = [{"reason": one.reason, "paths": list(one.paths)} for one in self.obstacles]
        return {
            "ready": self.ready,
            "max_rank": self.max_rank,
            "padding": dict(self.padding),
            "silent": list(self.silent),
            "obstacles": obstacles,
        }


def readiness(prepared: Plan | Lock, other: Plan | Lock, max_rank: int | None = None) -> Readiness:
    """Whether the adapter of `other` can be swapped into a model prepared for `prepared`, with every reason why not.

    `max_rank` is what the model is, or will be, prepared with (`Runtime.prepare`); by default the largest rank of
    the two. What only the live model knows is checked when it is prepared: a convolution with groups needs a rank
    that they divide.
    """
    max_rank = widest((prepared, other)) if max_rank is None else max_rank
    obstacles = [*preparation_obstacles(prepared, max_rank), *differences(prepared, other, max_rank)]
    own, others = ({site.full_path for site in one.sites} for one in (prepared, other))
    padding = {site.full_path: max_rank - rank_of(site) for site in other.sites if site.full_path in own}
    silent = tuple(site.full_path for site in prepared.sites if site.full_path not in others)
    return Readiness(max_rank, padding, silent, tuple(obstacles))


def differences(prepared: Plan | Lock, other: Plan | Lock, max_rank: int | None) -> list[Obstacle]:
    """What keeps the adapter of `other` out of a model with the adapter of `prepared`.

    Ranks are compared with `max_rank`; with None they are left to the tensors.
    """
    sites = {site.full_path: site for site in prepared.sites}
    obstacles = list(_of_the_whole(prepared, other))
    if more := tuple(site.full_path for site in other.sites if site.full_path not in sites):
        obstacles.append(Obstacle("adapted by it, and not in the prepared model", more))
    pairs = [(sites[site.full_path], site) for site in other.sites if site.full_path in sites]
    obstacles += _grouped((reason, site.full_path) for own, site in pairs for reason in _of_a_site(own, site, max_rank))
    return obstacles


def preparation_obstacles(plan: Plan | Lock, max_rank: int) -> list[Obstacle]:
    """Why a model with this plan cannot be prepared for swapping without recompiling."""
    obstacles = _grouped((reason, site.full_path) for site in plan.sites for reason in _unpreparable(site, max_rank))
    if plan.trained:
        reason = "trained in full: such a module is switched off by a flag of PEFT, which recompiles"
        obstacles.append(Obstacle(reason, tuple(plan.trained)))
    return obstacles


def widest(plans: Iterable[Plan | Lock]) -> int:
    """The largest rank in these plans."""
    return max((rank_of(site) for plan in plans for site in plan.sites), default=1)


def rank_of(site: Site | LockedSite) -> int:
    """The rank that a site's adapter could be padded from; 1 for a method that has none."""
    return int(site.settings["r"]) if is_ranked(site) else 1


def is_ranked(site: Site | LockedSite) -> bool:
    """Whether the site's adapter can be padded to a larger rank and switched off by its scale."""
    return site.method in _RANKED and _variant(site) is None and not site.parameter


def _variant(site: Site | LockedSite) -> str | None:
    """The setting that makes PEFT compute this adapter in a way of its own."""
    return next((name for name in _VARIANTS if site.settings.get(name)), None)


def free_settings(site: Site | LockedSite) -> frozenset[str]:
    """The settings in which two adapters may differ and still be swapped."""
    return _FREE if is_ranked(site) else _FREE - {"r", "alpha", "rslora"}


def _settings(site: Site | LockedSite, free: frozenset[str]) -> dict[str, Any]:
    """All settings but the free ones, defaults filled in: a lock may be older than a setting."""
    defaults = {setting.name: setting.default for setting in METHODS[site.method].settings}
    return {name: value for name, value in {**defaults, **site.settings}.items() if name not in free}


def module_of(site: Site | LockedSite) -> Module:
    """The site's module as far as a lock knows it: what a method's scale and layout follow from."""
    weight = Parameter("weight", tuple(site.shape), "float32", Init("unknown"), 0)
    return Module(site.path, site.kind, (site.kind,), (weight,))


def _of_the_whole(prepared: Plan | Lock, other: Plan | Lock) -> Iterator[Obstacle]:
    if prepared.model != other.model:
        yield Obstacle(f"the plan is for {other.model or 'another model'}, the prepared one for {prepared.model}")
    elif prepared.fingerprints.graph != other.fingerprints.graph:
        yield Obstacle(
            f"the plan was made on another graph ({_short(other)}, prepared {_short(prepared)}), "
            "so nothing says that the base models are the same"
        )
    for one, another, where in ((other, prepared, "with it"), (prepared, other, "in the prepared model")):
        if only := tuple(path for path in one.trained if path not in another.trained):
            yield Obstacle(f"trained in full {where} only", only)


def _short(plan: Plan | Lock) -> str:
    return plan.fingerprints.graph[: len("sha256:") + 12] or "unknown"


def _unpreparable(site: Site | LockedSite, max_rank: int) -> Iterator[str]:
    method = METHODS.get(site.method)
    if method is None:
        yield f"this version of surgery has no method {site.method}"
    elif site.method not in _RANKED:
        yield f"{site.method} has no rank to pad and no scale that removes it, so swapping it recompiles"
    elif site.parameter:
        yield "an adapter on a parameter is merged in every call, by code that cannot be padded"
    elif site.settings.get("dora"):
        yield "DoRA rescales the base weight whatever the scale is, so switching it off recompiles"
    elif variant := _variant(site):
        yield f"{variant} computes the update by the layout of the factors, which padding would change"
    elif method.writes_weights(site.settings):
        yield f"{_init(site)} changes the base weights, so that they fit no other adapter"
    if rank_of(site) > max_rank:
        yield f"its rank {rank_of(site)} is above the prepared {max_rank}"


def _of_a_site(own: LockedSite | Site, site: LockedSite | Site, max_rank: int | None) -> Iterator[str]:
    """Why this site's adapter does not fit the prepared one on the same module."""
    if (own.kind, own.shape) != (site.kind, site.shape):
        yield f"a {site.kind} of shape {site.shape}, in the prepared model a {own.kind} of shape {own.shape}"
    if own.method != site.method:
        yield f"{site.method}, in the prepared model {own.method}"
        return
    if max_rank is not None and rank_of(site) > max_rank:
        yield f"rank {rank_of(site)}, above the prepared {max_rank}"
    elif site.method == LOKR.name and _parts(own) != _parts(site):
        yield f"rank {rank_of(site)}, at which LoKr decomposes other factors than at {rank_of(own)}, the prepared one's"
    if site.method in METHODS:
        free = free_settings(own)
        mine, theirs = _settings(own, free), _settings(site, free)
        for name in sorted(mine.keys() | theirs.keys()):
            if mine.get(name) != theirs.get(name):
                yield f"{name} = {value_text(theirs.get(name))}, in the prepared model {value_text(mine.get(name))}"
        if METHODS[site.method].writes_weights(site.settings):
            yield f"{_init(site)} has changed the base weights that it was trained with"


def _parts(site: LockedSite | Site) -> tuple[bool, bool]:
    return LOKR.decomposed(module_of(site), site.settings)


def _init(site: LockedSite | Site) -> str:
    return f"init = {value_text(site.settings.get('init'))}"


def _grouped(reasons: Iterable[tuple[str, str]]) -> list[Obstacle]:
    """One obstacle for each reason, with its modules."""
    paths: dict[str, list[str]] = {}
    for reason, path in reasons:
        paths.setdefault(reason, []).append(path)
    return [Obstacle(reason, tuple(found)) for reason, found in paths.items()]


_ELSEWHERE = (
    "plan it on the same graph, with the same method on some of the same modules, or load it into another model"
)
_UNPREPARED = (
    "plan lora, loha or lokr, with room for the largest rank; a model that is not compiled swaps unprepared too"
)


def not_swappable(
    what: str, obstacles: Sequence[Obstacle], *, place: str | None = None, help: str = _ELSEWHERE
) -> Diagnostic:
    """E0520, with one note for each obstacle."""
    notes = [one.reason + (f": {some(one.paths)}" if one.paths else "") for one in obstacles]
    return Diagnostic("E0520", what, place=place, notes=tuple(notes), helps=(help,))


def not_preparable(plan: Plan | Lock, max_rank: int, *, place: str) -> Diagnostic | None:
    """E0520 for a plan whose model cannot be prepared, whatever is to be swapped into it; else None."""
    obstacles = preparation_obstacles(plan, max_rank)
    message = "a model of this plan cannot be prepared for swapping"
    return not_swappable(message, obstacles, place=place, help=_UNPREPARED) if obstacles else None
