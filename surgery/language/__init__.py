"""The `.surg` language: text to a checked spec, and back to formatted text. Imports no torch."""

from surgery.language.formatter import format_text
from surgery.language.globs import Glob, parse_glob
from surgery.language.overrides import parse_override
from surgery.language.spec import LoadedSpec, load, load_source

__all__ = ["Glob", "LoadedSpec", "format_text", "load", "load_source", "parse_glob", "parse_override"]
