"""Small real models of the field's architectures, built from their packages' own classes."""

import importlib
import pkgutil

from architectures.registry import ARCHITECTURES, Architecture, Built

for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")

__all__ = ["ARCHITECTURES", "Architecture", "Built"]
