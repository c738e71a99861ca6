"""How writers spell the parameters of an adapter, and in which ways a key can be read.

A key is the path of a module, spelled in some way, then the parameter's name, spelled in some way. Nothing here
knows a model: the parameters are those that the plan wants.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator

from surgery.importing.slots import Slot

ALPHA = "alpha"  # a tensor of one number beside the weights: the scale is alpha / rank

# PEFT's name of a parameter -> kohya's and LyCORIS', diffusers' older ones, and VoxCPM's bare one.
_ALSO = {
    "lora_A.weight": ("lora_A", "lora_down.weight", "lora.down.weight", "lora_linear_layer.down.weight"),
    "lora_B.weight": ("lora_B", "lora_up.weight", "lora.up.weight", "lora_linear_layer.up.weight"),
    "lora_magnitude_vector": ("lora_magnitude_vector.weight", "dora_scale"),
    ALPHA: ("lora.alpha",),
}
_INNER = "base_layer."  # PEFT nests the adapters of several parameters of one module in each other
# What torch.compile, FSDP and activation checkpointing put into the paths of a state dict.
_WRAPPERS = frozenset(("_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"))
# The attention processors of diffusers before 0.22: `attn1.processor.to_q_lora.down.weight`.
_PROCESSOR = re.compile(r"\.processor\.(\w+?)_lora\.(down|up)\.weight$")


def unwrapped(path: str) -> str:
    """A dotted path or key without what wrappers have put into it."""
    return ".".join(part for part in path.split(".") if part not in _WRAPPERS)


class Spellings:
    """Every spelling of the parameters of `slots`, where the file holds an adapter called `name` or does not say."""

    def __init__(self, slots: Iterable[Slot], name: str | None) -> None:
        self._parameters: dict[str, set[str]] = {}
        for parameter, on_site in {(slot.parameter, slot.site is not None) for slot in slots}:
            for spelling in _spellings(parameter, on_site, name):
                self._parameters.setdefault(spelling, set()).add(parameter)
        for spelling in (ALPHA, *_ALSO[ALPHA]):
            self._parameters.setdefault(spelling, set()).add(ALPHA)
        self._longest = max(spelling.count(".") + 1 for spelling in self._parameters)

    def readings(self, key: str) -> Iterator[tuple[str, str]]:
        """Each way to read a key: as the path of a module as it is spelled there, and a parameter."""
        parts = unwrapped(_PROCESSOR.sub(_current, key)).split(".")
        for cut in range(max(1, len(parts) - self._longest), len(parts)):
            for parameter in sorted(self._parameters.get(".".join(parts[cut:]), ())):
                yield ".".join(parts[:cut]), parameter


def _spellings(parameter: str, on_site: bool, name: str | None) -> Iterator[str]:
    if name is None:
        yield from (parameter, *_ALSO.get(parameter, ()))
        return
    if not on_site:
        yield f"modules_to_save.{name}.{parameter}"
        return
    inner, own = _split(parameter)
    for spelling in (own, *_ALSO.get(own, ())):
        head, dot, rest = spelling.partition(".")
        if head == own.partition(".")[0] and (dot or "." not in own):
            yield f"{inner}{head}.{name}{dot}{rest}"


def _split(parameter: str) -> tuple[str, str]:
    """What a parameter's name has before the container of the adapter, and the rest."""
    own = parameter
    while own.startswith(_INNER):
        own = own.removeprefix(_INNER)
    return parameter.removesuffix(own), own


def adapter_names(keys: Iterable[str], slots: Iterable[Slot]) -> list[str | None]:
    """Names that the file's adapter may have: PEFT puts it behind `lora_A` in a model, and strips it when saving."""
    heads = {_split(slot.parameter)[1].partition(".")[::2] for slot in slots if slot.site}
    patterns = [re.compile(rf"\.{re.escape(h)}\.([^.]+){re.escape('.' + r if r else '')}$") for h, r in sorted(heads)]
    found = Counter(match[1] for key in keys for pattern in patterns if (match := pattern.search(key)))
    return [None, *(name for name, _ in found.most_common(3))]


def _current(match: re.Match[str]) -> str:
    name = "to_out.0" if match[1] == "to_out" else match[1]
    return f".{name}.lora.{match[2]}.weight"
