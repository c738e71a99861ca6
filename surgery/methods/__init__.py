"""What each adapter method needs, accepts, adds and starts as. Imports no torch and no peft.

A method is a file with one instance of `Method`; to add one, write its file and enter it in `METHODS`.
"""

from collections.abc import Mapping

from surgery.methods.geometry import Geometry, geometry
from surgery.methods.loha import LOHA
from surgery.methods.lora import LORA
from surgery.methods.method import Method
from surgery.methods.not_supported import NOT_SUPPORTED
from surgery.methods.resolve import resolve
from surgery.methods.setting import Setting, Value

METHODS: Mapping[str, Method] = {
    method.name: method
    for method in (
        LORA,
        LOHA,
    )
}

__all__ = ["METHODS", "NOT_SUPPORTED", "Geometry", "Method", "Setting", "Value", "geometry", "resolve"]
