"""LoKr: the Kronecker product of a small matrix and one that is low-rank itself."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import lru_cache
from math import isqrt
from typing import Any

from surgery.graph import Module
from surgery.methods.catalogue import settings_of
from surgery.methods.geometry import Geometry, geometry
from surgery.methods.method import Method, Start, alpha_advice

_setting = settings_of("LOKR")


class Lokr(Method):
    """W + scale * kron(W1, W2), where W2, and W1 with decompose_both, is a product of rank r unless r is too high."""

    name = "lokr"
    title = "LoKr"
    paper = "https://arxiv.org/abs/2309.14859"
    peft_type = "LOKR"
    layers = ("Linear", "Conv1d", "Conv2d")
    starts_at = {"lokr_w1": 0.0, "lokr_w1_a": 0.0}
    settings = (
        _setting("r", "int", "the rank of the decomposed factors", pattern="rank_pattern"),
        _setting("alpha", "number", "the scale is alpha / r", pattern="alpha_pattern"),
        _setting("rank_dropout", "probability", "dropout on rows of the update, in training"),
        _setting("module_dropout", "probability", "how often a whole adapter is skipped"),
        _setting(
            "use_effective_conv2d", "bool", "keep the kernel apart (FedPara's Proposition 3)", name="effective_conv2d"
        ),
        _setting("decompose_both", "bool", "decompose W1 too, where it is large enough for r"),
        _setting("decompose_factor", "int", "the size of W1; -1: near the square root of the layer's", also=(-1,)),
        _setting("rank_dropout_scale", "bool", "make up for the rows that rank_dropout drops"),
        _setting(
            "init_weights",
            "choice",
            'true: W1 zero; "lycoris": W2 zero, as in LyCORIS; false: all random, not the base model at start',
            name="init",
            choices=(True, False, "lycoris"),
        ),
    )

    def refusal_of(self, module: Module, sizes: Geometry, settings: Mapping[str, Any]) -> str | None:
        r, (_, c, b, d) = settings["r"], _sides(sizes, settings)
        if sizes.layer == "Conv1d" and _is_whole(r, b, d):
            fits = f"take r up to {(max(b, d) - 1) // 2}" if max(b, d) > 2 else "its sides are too small for another"
            return f"PEFT lays out W2 in another order for a Conv1d where r = {r} leaves it whole: {fits}"
        narrow = sizes.layer == "Conv1d" or sizes.kernel[-1:] == (1,)
        apart = _is_apart(sizes, settings) and not _is_whole(r, b, d)
        if r == 1 and narrow and apart and min(b, c, d) > 1:
            return "PEFT fails to multiply out a kernel of one column that is kept apart with r = 1: take r = 2"
        return None

    def added_to(self, sizes: Geometry, settings: Mapping[str, Any]) -> int:
        """W1: (a, c) and W2: (b, d x kernel), for outputs = a x b and inputs / groups = c x d; decomposed as
        (a, r) (r, c) and (b, r) (r, d x kernel), or with the kernel apart as (r, b), (r, d) and (r, r, kernel).
        """
        r: int = settings["r"]
        a, c, b, d = _sides(sizes, settings)
        parted = _decomposed(sizes, settings)
        first = r * (a + c) if parted[0] else a * c
        if not parted[1]:
            return first + b * d * sizes.kernel_size
        if _is_apart(sizes, settings):
            return first + r * (b + d) + r * r * sizes.kernel_size
        return first + r * (b + d * sizes.kernel_size)

    def decomposed(self, module: Module, settings: Mapping[str, Any]) -> tuple[bool, bool]:
        """Whether W1 and whether W2 is kept as the product of two smaller matrices. The module must not be refused."""
        sizes = geometry(module)
        assert isinstance(sizes, Geometry), f"{module.path}: {sizes}"
        return _decomposed(sizes, settings)

    def scale(self, module: Module, settings: Mapping[str, Any]) -> float:
        return float(settings["alpha"] / settings["r"])

    def start(self, settings: Mapping[str, Any]) -> Start:
        return "exact" if settings["init"] else "none"

    def starts(self, settings: Mapping[str, Any]) -> Mapping[str, float]:
        return {"lokr_w2": 0.0, "lokr_w2_b": 0.0} if settings["init"] == "lycoris" else super().starts(settings)

    def advice_on(self, sizes: Geometry, settings: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
        yield from alpha_advice(settings["r"], settings["alpha"])


def _is_whole(r: int, rows: int, columns: int) -> bool:
    """Whether r is so high that PEFT does not decompose a factor with these sides."""
    return r >= max(rows, columns) / 2


def _decomposed(sizes: Geometry, settings: Mapping[str, Any]) -> tuple[bool, bool]:
    r, (a, c, b, d) = settings["r"], _sides(sizes, settings)
    return settings["decompose_both"] and not _is_whole(r, a, c), not _is_whole(r, b, d)


def _is_apart(sizes: Geometry, settings: Mapping[str, Any]) -> bool:
    """Whether a decomposed W2 has its kernel apart."""
    return bool(settings["effective_conv2d"] and sizes.kernel_size > 1)


def _sides(sizes: Geometry, settings: Mapping[str, Any]) -> tuple[int, int, int, int]:
    """a, c, b, d: the sides of W1, and those of W2."""
    (a, b), (c, d) = (
        _factors(side, settings["decompose_factor"]) for side in (sizes.outputs, sizes.inputs // sizes.groups)
    )
    return a, c, b, d


@lru_cache(maxsize=1024)
def _factors(side: int, factor: int) -> tuple[int, int]:
    """The two numbers whose product a side is: the first is `factor` where it divides the side, else the divisor up to
    `factor` (-1: any) that is nearest to the square root.
    """
    if factor > 0 and side % factor == 0:
        return factor, side // factor
    most = side if factor == -1 else factor
    divisors = [number for number in range(1, min(most, isqrt(side)) + 1) if side % number == 0]
    return divisors[-1], side // divisors[-1]


LOKR = Lokr()
