"""Layers whose weight is quantised: which of them PEFT's methods adapt exactly, told by their classes.

Adapted are bitsandbytes' layers, which run on CPUs too (`tests/inject/test_quantised.py` runs every method on both).
"""

from __future__ import annotations

from functools import lru_cache

# bitsandbytes' layers, and how many bits each number of their weights takes.
BITS = {"Linear8bitLt": 8, "Linear4bit": 4}

# By a class of the layer: what it is. They run on other hardware than these checks do, so nothing is promised of them.
_UNTRIED = {
    "BaseQuantLinear": "a layer of gptqmodel (GPTQ, AWQ)",
    "WQLinear_GEMM": "a layer of AutoAWQ",
    "WQLinear_GEMV": "a layer of AutoAWQ",
    "QuantizedLinear": "a layer of AQLM",
    "EetqLinear": "a layer of EETQ",
    "HQQLinear": "a layer of HQQ",
    "PatchedLinear": "a layer of Intel's Neural Compressor",
    "TransformerEngineBaseModule": "a layer of Transformer Engine",
    "FbgemmFp8Linear": "a layer of FBGEMM",
    "FP8Linear": "a layer of transformers' FP8",
    "BitLinear": "a layer of BitNet",
    "AutoBitLinear": "a layer of BitNet",
}

# The methods that never look at the weight they adapt: they compute from the layer's input and output. Of 8-bit
# layers the stored weight has the shape of the weight, which is all that Lily, LoHa and LoKr ask of it.
_BESIDE_THE_WEIGHT = {
    *("lora", "beft", "boft", "fourierft", "ia3", "miss", "oft", "pvera"),
    *("randlora", "road", "unilora", "vblora", "vera", "waveft"),
}
_WRITES_INTO_THE_RESULT = {"c3a", "gralora"}
_BY_THE_MODEL = {"adalora", "hira"}
_TAKES = {8: {*_BESIDE_THE_WEIGHT, "lily", "loha", "lokr"}, 4: _BESIDE_THE_WEIGHT}


@lru_cache(maxsize=1024)
def bits_of(classes: tuple[str, ...]) -> int | None:
    """How many bits each number of the weight takes, by the names of the layer's classes; None for plain floats."""
    return next((BITS[name] for name in classes if name in BITS), None)


@lru_cache(maxsize=1024)
def untried(classes: tuple[str, ...]) -> str | None:
    """Why a layer quantised by another library is not adapted, by the names of its classes, or None."""
    what = next((_UNTRIED[name] for name in classes if name in _UNTRIED), None)
    return what and f"it is {what}, of which nothing could be checked; bitsandbytes' layers are adapted"


def quantised_refusal(method: str, title: str, bits: int | None, needs_floats: bool) -> str | None:
    """Why a method cannot adapt a weight that bitsandbytes stores in so many bits (None: plain floats), or None."""
    if not bits:
        return None
    if method in _WRITES_INTO_THE_RESULT:
        return f"PEFT's {title} adds to the layer's result in place, which bitsandbytes' layers do not allow"
    if method in _BY_THE_MODEL:
        return (
            f"PEFT's {title} is right on it only in a model that transformers quantised, which its class does not say"
        )
    if needs_floats or method not in _TAKES[bits]:
        stored = f"from the weight, which is stored in {bits} bits"
        return f"PEFT's {title}, with these settings, takes numbers, their shape or their dtype {stored}"
    return None
