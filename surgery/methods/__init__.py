"""What each adapter method needs, accepts, adds and starts as. Imports no torch and no peft.

A method is a file with one instance of `Method`; to add one, write its file and enter it in `METHODS`.
"""

from collections.abc import Mapping

from surgery.methods.adalora import ADALORA
from surgery.methods.adamss import ADAMSS
from surgery.methods.beft import BEFT
from surgery.methods.boft import BOFT
from surgery.methods.c3a import C3A
from surgery.methods.deft import DEFT
from surgery.methods.delora import DELORA
from surgery.methods.fourierft import FOURIERFT
from surgery.methods.geometry import Geometry, geometry
from surgery.methods.glora import GLORA
from surgery.methods.gralora import GRALORA
from surgery.methods.hira import HIRA
from surgery.methods.hra import HRA
from surgery.methods.ia3 import IA3
from surgery.methods.lily import LILY
from surgery.methods.ln_tuning import LN_TUNING
from surgery.methods.loha import LOHA
from surgery.methods.lokr import LOKR
from surgery.methods.lora import LORA
from surgery.methods.method import Method
from surgery.methods.miss import MISS
from surgery.methods.not_supported import NOT_SUPPORTED
from surgery.methods.oft import OFT
from surgery.methods.osf import OSF
from surgery.methods.other_names import OTHER_NAMES
from surgery.methods.peanut import PEANUT
from surgery.methods.psoft import PSOFT
from surgery.methods.pvera import PVERA
from surgery.methods.randlora import RANDLORA
from surgery.methods.resolve import resolve
from surgery.methods.road import ROAD
from surgery.methods.setting import Setting, Value
from surgery.methods.shira import SHIRA
from surgery.methods.supertuning import SUPERTUNING
from surgery.methods.tinylora import TINYLORA
from surgery.methods.trainable_tokens import TRAINABLE_TOKENS
from surgery.methods.unilora import UNILORA
from surgery.methods.vblora import VBLORA
from surgery.methods.vera import VERA
from surgery.methods.waveft import WAVEFT

METHODS: Mapping[str, Method] = {
    method.name: method
    for method in (
        LORA,
        LOHA,
        ADALORA,
        ADAMSS,
        BEFT,
        BOFT,
        C3A,
        DEFT,
        DELORA,
        FOURIERFT,
        GLORA,
        GRALORA,
        HIRA,
        HRA,
        IA3,
        LILY,
        LN_TUNING,
        LOKR,
        MISS,
        OFT,
        OSF,
        PEANUT,
        PSOFT,
        PVERA,
        RANDLORA,
        ROAD,
        SHIRA,
        SUPERTUNING,
        TINYLORA,
        TRAINABLE_TOKENS,
        UNILORA,
        VBLORA,
        VERA,
        WAVEFT,
    )
}

__all__ = ["METHODS", "NOT_SUPPORTED", "OTHER_NAMES", "Geometry", "Method", "Setting", "Value", "geometry", "resolve"]
