"""Analyses over a graph: reach, bypass, blocks, gradient, roles. Imports no torch."""

from surgery.facts.analyse import with_facts

__all__ = ["with_facts"]
