"""The adapters of a running model: held by name, one of them in the model at a time, swapped by copying tensors."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from peft import PeftMixedModel, PeftModel
from torch import nn

from surgery.planning.plan import Plan
from surgery.planning.swapping import Obstacle, differences, preparation_obstacles, rank_of
from surgery.runtime.adapter import Adapter, as_planned
from surgery.runtime.combining import combination_obstacles, combined, overflows
from surgery.runtime.fitting import idle, misfits, other_than_held, rank_obstacles, switched_off
from surgery.runtime.preparing import live_obstacles, remade, scales_to_tensors
from surgery.runtime.reading import from_tensors, read_source
from surgery.runtime.refusals import (
    check_is_not_in_use,
    check_name_is_free,
    check_name_is_held,
    check_scales_are_finite,
    finite,
    refuse,
    refuse_bare,
)
from surgery.runtime.saving import save_adapter
from surgery.runtime.table import Table
from surgery.runtime.writing import read_tensors, write_flags, write_ranks, write_scales, write_tensors

Source = Path | str | Mapping[str, torch.Tensor]


@dataclass(frozen=True)
class Change:
    """What a call did: `loaded` are the keys of the tensors, or the modules, that it was about and reached.

    `not_loaded` are those that it was about and did not reach. It is always empty: a call that would leave one
    raises, and changes nothing. `silent` are the adapted modules that the adapter leaves alone.
    """

    adapter: str
    loaded: tuple[str, ...]
    not_loaded: tuple[str, ...] = ()
    silent: tuple[str, ...] = ()


@dataclass
class _Held:
    """A named adapter. The tensors of the one in the model are stale; `factor` is the user's, on its scale."""

    adapter: Adapter
    factor: float = 1.0


class Runtime:
    """Adapters of a model that `surgery.apply(model, plan)` returned, compiled or not, held under names.

    Exactly one is in the model: the present one under `name`, until `switch` puts another in its place. Swapping
    copies values into the model's own tensors, which remain the same objects, cast to their dtype; `requires_grad`
    and training flags are never touched. After `prepare`, no call makes `torch.compile` compile anything again.

    Calls from several threads take turns. A forward pass in another thread does not wait: where the model runs
    while it is swapped, run it inside `using`, which holds the turn.

    Every call raises SurgeryError and leaves the model as it was: E0520 for what cannot be swapped, with every
    difference, E0509 if the model no longer carries the plan's adapters.
    """

    def __init__(self, model: nn.Module, plan: Plan, *, name: str = "default") -> None:
        adapted = getattr(model, "_orig_mod", model)
        if not isinstance(adapted, (PeftModel, PeftMixedModel)):
            refuse_bare(model)
        if parameters := tuple(site.full_path for site in plan.sites if site.parameter):
            refuse("the model cannot be swapped", [Obstacle("an adapter on a parameter, not on a module", parameters)])
        self._model, self._plan = adapted, plan
        self._table = Table(adapted, plan)
        present = Adapter(as_planned(plan.sites), {})
        refuse(f"the model's adapter is not that of {plan.spec}", other_than_held(self._table, present, None))
        self._held = {name: _Held(present)}
        self._active, self._enabled = name, True
        self._max_rank: int | None = None
        self._turn = threading.RLock()

    @property
    def names(self) -> tuple[str, ...]:
        """The adapters held, in the order in which they came."""
        return tuple(self._held)

    @property
    def active(self) -> str:
        """The adapter that is in the model, whether enabled or not."""
        return self._active

    @property
    def enabled(self) -> bool:
        return self._enabled

    @property
    def max_rank(self) -> int | None:
        """The rank that the model is prepared for, or None."""
        return self._max_rank

    def prepare(self, max_rank: int) -> Change:
        """Make room for adapters of up to `max_rank`, and let every later call compile nothing again.

        Ranks are padded with zeros and scales become tensors, so the outputs stay the same up to the rounding of
        a product of other size. Call it before the first compiled call, before or after `torch.compile`: code that was
        compiled earlier is compiled once more. LoRA, with rsLoRA, LoHa and LoKr can be prepared; what cannot is
        refused before anything is changed. Parameters stay the same objects, but have another shape from here on:
        prepare before an optimiser is made.
        """
        with self._in_turn():
            table = self._current()
            ranks = [applied.rank for held in self._held.values() for applied in held.adapter.sites.values()]
            obstacles = [*preparation_obstacles(self._plan, max_rank), *live_obstacles(table, max_rank)]
            if max(ranks, default=1) > max_rank and not obstacles:
                obstacles.append(Obstacle(f"an adapter of rank {max(ranks)} is held, above {max_rank}"))
            refuse("the model cannot be prepared for swapping", obstacles)
            self._table = table = remade(self._model, self._plan, table, self._in_model.adapter, max_rank)
            self._max_rank = max_rank
            self._show_switch()
            return Change(self._active, tuple(table.places))

    def unprepare(self) -> Change:
        """Undo `prepare`: tensors of the rank of the adapter in the model, scales as numbers. Compiles again.

        Adapters of other ranks stay held; to switch to them, prepare the model again.
        """
        with self._in_turn():
            table = self._current()
            self._table = table = remade(self._model, self._plan, table, self._in_model.adapter, None)
            self._max_rank = None
            self._show_switch()
            return Change(self._active, tuple(table.places))

    def load(
        self, name: str, source: Source, *, plan: Plan | None = None, config: Mapping[str, Any] | None = None
    ) -> Change:
        """Read an adapter, check that it fits to the key and the shape, and hold it as `name`, ready for `switch`.

        `source` is a PEFT directory, whose configuration gives ranks and scales, or tensors by the keys of
        `adapter_model.safetensors`, applied as the plan says, or as `config` (PEFT's, as a mapping) does. `plan`
        is the adapter's own where that is not the model's: it may adapt some of the modules, the others are
        silent. Also raises E0501 for files that cannot be read.
        """
        with self._in_turn():
            check_name_is_free(name, self.names)
            self._held[name] = self._kept(self._fitting(name, source, plan, config))
            return self._change(name)

    def replace(
        self, name: str, source: Source, *, plan: Plan | None = None, config: Mapping[str, Any] | None = None
    ) -> Change:
        """Put other values in the place of a held adapter, at once in the model if it is the active one.

        As `load`, for a name that is held; its factor is 1 again.
        """
        with self._in_turn():
            self._named(name)
            adapter = self._fitting(name, source, plan, config)
            if name == self._active:
                self._swap(name, _Held(replace(adapter, tensors={})), adapter)
            else:
                self._held[name] = self._kept(adapter)
            return self._change(name)

    def switch(self, name: str) -> Change:
        """Put the adapter `name` into the model; the one that is there is kept as it is now."""
        with self._in_turn():
            held = self._named(name)
            table = self._current()
            if name != self._active:
                if self._max_rank is None:  # it may have been loaded when there was more room
                    misfit = rank_obstacles(table, held.adapter, prepared=False)
                    refuse(f"`{name}` cannot be swapped in", misfit)
                self._swap(name, held, held.adapter)
            return self._change(name)

    @contextmanager
    def using(self, name: str) -> Iterator[None]:
        """The adapter `name` in the model for a block, then the present one again; no other thread swaps meanwhile."""
        with self._turn:
            before = self._active
            self.switch(name)
            try:
                yield
            finally:
                self.switch(before)

    def unload(self, name: str) -> Change:
        """Forget an adapter that is not in the model."""
        with self._in_turn():
            self._named(name)
            check_is_not_in_use(name, self._active)
            change = self._change(name)
            del self._held[name]
            return change

    def combine(self, name: str, weights: Mapping[str, float]) -> Change:
        """Hold as `name` the sum of each adapter's update times its weight; weights may be negative.

        Exact up to rounding: the ranks add up, so the model has to be prepared for their sum. Plain LoRA only. The
        factors of `scale` do not enter.
        """
        with self._in_turn():
            check_name_is_free(name, self.names)
            table = self._current()
            self._park()
            terms = [(self._named(one).adapter, finite(weight)) for one, weight in weights.items()]
            message = f"`{name}` cannot be made"
            refuse(message, combination_obstacles(table, terms, self._max_rank))
            adapter = combined(table, terms)
            refuse(message, overflows(adapter))
            self._held[name] = _Held(adapter)
            return self._change(name)

    def scale(self, factor: float, name: str | None = None) -> Change:
        """Multiply an adapter's own scale, by default the active one's: 1 is as trained, 0 is the base model.

        It stays with the adapter. Modules that are trained in full, and DoRA's magnitudes, are not scaled.
        """
        with self._in_turn():
            name = self._active if name is None else name
            held = self._named(name)
            table = self._current()
            if unscaled := tuple(path for path, place in table.places.items() if place.scaling is None):
                refuse("the adapter cannot be scaled", [Obstacle("its method has no scale", unscaled)])
            check_scales_are_finite(held.adapter, finite(factor))
            if name == self._active:
                self._check_switch()
            held.factor = float(factor)
            if name == self._active:
                self._show_scales()
            return Change(name, tuple(held.adapter.sites))

    def disable(self) -> Change:
        """Let the model compute what its base model computes; switching and scaling go on behind it.

        In a prepared model the scales are 0, else PEFT's flags are set, which compiles again.
        """
        return self._enable(False)

    def enable(self) -> Change:
        """Let the active adapter take part again."""
        return self._enable(True)

    def state(self, name: str | None = None) -> dict[str, torch.Tensor]:
        """A copy of an adapter's tensors, by default the active one's, at its own rank, as a PEFT file has them."""
        with self._in_turn():
            adapter = self._up_to_date(name).adapter
            return {key: tensor.clone() for key, tensor in adapter.tensors.items()}

    def save(self, directory: Path | str, name: str | None = None) -> Change:
        """Write an adapter, by default the active one, as plain PEFT directories, at its own rank and scale.

        Its factor is not written. Raises SurgeryError (E0514).
        """
        with self._in_turn():
            name = self._active if name is None else name
            adapter = self._up_to_date(name).adapter
            save_adapter(self._model, self._plan, self._table, adapter, Path(directory))
            return self._change(name)

    # What the calls above are made of. Each holds the turn already.

    @contextmanager
    def _in_turn(self) -> Iterator[None]:
        """No other thread, and plain tensors: what is made in inference mode could not be written to outside of it."""
        with self._turn, torch.inference_mode(False), torch.no_grad():
            yield

    @property
    def _in_model(self) -> _Held:
        return self._held[self._active]

    def _named(self, name: str) -> _Held:
        check_name_is_held(name, self.names)
        return self._held[name]

    def _current(self) -> Table:
        """The table, made anew if something moved or replaced a tensor; E0520 while swapping has no effect."""
        if not self._table.is_current():
            table = Table(self._model, self._plan)
            found = other_than_held(table, self._in_model.adapter, self._max_rank)
            refuse("the model's adapter is not the runtime's any more", found)
            if self._max_rank is not None:
                scales_to_tensors(table)
            self._table = table
            held = self._in_model  # its own tensors may be on another device, or of another type
            held.adapter = replace(held.adapter, tensors={})
        refuse("the adapter in the model takes no part", idle(self._table))
        return self._table

    def _fitting(self, name: str, source: Source, plan: Plan | None, config: Mapping[str, Any] | None) -> Adapter:
        """The adapter of a source, if it fits."""
        table = self._current()
        message, place = f"`{name}` cannot be swapped in", None if isinstance(source, Mapping) else str(source)
        if plan is None:
            plan = self._plan
        else:
            refuse(message, differences(self._plan, plan, self._max_rank), place)
        if isinstance(source, Mapping):
            adapter, obstacles = from_tensors(source, plan, config)
        else:
            adapter, obstacles = read_source(Path(source), plan, lambda: self._shapes(plan))
        refuse(message, [*obstacles, *misfits(table, adapter, prepared=self._max_rank is not None)], place)
        return adapter

    def _kept(self, adapter: Adapter) -> _Held:
        """The adapter with tensors of its own, where and as the model has them."""
        slots = self._table.slots
        tensors = {key: slots[key].tensor.detach().new_empty(tensor.shape) for key, tensor in adapter.tensors.items()}
        torch._foreach_copy_(list(tensors.values()), list(adapter.tensors.values()))
        return _Held(replace(adapter, tensors=tensors))

    def _shapes(self, plan: Plan) -> dict[str, dict[str, tuple[int, ...]]]:
        """The shapes of a plan's tensors, at its own ranks: by PEFT adapter, by key."""
        shapes: dict[str, dict[str, tuple[int, ...]]] = {site.adapter: {} for site in plan.sites}
        for site in plan.sites:
            for slot in self._table.places[site.path].slots:
                shapes[site.adapter][slot.key] = slot.shape(rank_of(site))
        next(iter(shapes.values())).update({slot.key: tuple(slot.tensor.shape) for slot in self._table.others})
        return shapes

    def _swap(self, name: str, held: _Held, source: Adapter) -> None:
        """Copy the tensors of `source` into the model for `held`; if that is interrupted, those that are there."""
        self._check_switch()
        self._park()
        before, former = self._active, self._held.get(name)
        try:
            write_tensors(self._table, source)
            self._held[name], self._active = held, name
            self._show_adapter()
        except BaseException:
            self._active = before
            if former is not None:
                self._held[name] = former
            write_tensors(self._table, self._in_model.adapter)
            self._show_adapter()
            raise

    def _check_switch(self) -> None:
        """E0520 where PEFT's switch is off behind the runtime's back."""
        if self._enabled or self._max_rank is not None:
            refuse("the adapter in the model takes no part", switched_off(self._table))

    def _park(self) -> None:
        held = self._in_model
        held.adapter = replace(held.adapter, tensors=read_tensors(self._table, held.adapter))

    def _up_to_date(self, name: str | None) -> _Held:
        held = self._in_model if name is None else self._named(name)
        self._current()
        if held is self._in_model:
            self._park()
        return held

    def _enable(self, enabled: bool) -> Change:
        with self._in_turn():
            table = self._current()
            self._enabled = enabled
            if self._max_rank is None:
                self._show_switch()
            else:
                self._show_scales()
            return Change(self._active, tuple(table.places))

    def _show_adapter(self) -> None:
        """Ranks and scales of the model as the active adapter has them."""
        write_ranks(self._table, self._in_model.adapter)
        self._show_scales()

    def _show_scales(self) -> None:
        held = self._in_model
        factor = held.factor if self._enabled or self._max_rank is None else 0.0
        sites = held.adapter.sites
        scales = {path: sites[path].scale * factor if path in sites else 0.0 for path in self._table.places}
        write_scales(self._table, scales)

    def _show_switch(self) -> None:
        """Whether adapters take part: by their scales in a prepared model, else by PEFT's flags."""
        self._show_scales()
        write_flags(self._table, self._enabled or self._max_rank is not None)

    def _change(self, name: str) -> Change:
        sites = self._held[name].adapter.sites
        silent = tuple(path for path in self._table.places if path not in sites)
        return Change(name, self._table.layout(sites).keys, (), silent)
