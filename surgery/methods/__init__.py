"""What each adapter method needs, accepts, adds and starts as. Imports no torch and no peft.

A method is a file with one instance of `Method`; to add one, write its file and enter it in `METHODS`.
"""

from collections.abc import Mapping

from surgery.methods.adamss import ADAMSS
from surgery.methods.geometry import Geometry, geometry
from surgery.methods.lily import LILY
from surgery.methods.loha import LOHA
from surgery.methods.lora import LORA
from surgery.methods.method import Method
from surgery.methods.not_supported import NOT_SUPPORTED
from surgery.methods.pvera import PVERA
from surgery.methods.randlora import RANDLORA
from surgery.methods.resolve import resolve
from surgery.methods.setting import Setting, Value
from surgery.methods.tinylora import TINYLORA
from surgery.methods.trainable_tokens import TRAINABLE_TOKENS
from surgery.methods.unilora import UNILORA
from surgery.methods.vblora import VBLORA
from surgery.methods.vera import VERA

METHODS: Mapping[str, Method] = {
    method.name: method
    for method in (
        LORA,
        LOHA,
        ADAMSS,
        LILY,
        PVERA,
        RANDLORA,
        TINYLORA,
        TRAINABLE_TOKENS,
        UNILORA,
        VBLORA,
        VERA,
    )
}

__all__ = ["METHODS", "NOT_SUPPORTED", "Geometry", "Method", "Setting", "Value", "geometry", "resolve"]
