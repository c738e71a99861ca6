"""Spans, codes and diagnostics: what every phase of the compiler speaks in. Imports nothing of the project."""

from surgery.diagnostics.codes import CODES, Code
from surgery.diagnostics.diagnostic import Diagnostic, Diagnostics, Label, SurgeryError
from surgery.diagnostics.render import render
from surgery.diagnostics.span import Source, Span

__all__ = ["CODES", "Code", "Diagnostic", "Diagnostics", "Label", "Source", "Span", "SurgeryError", "render"]
