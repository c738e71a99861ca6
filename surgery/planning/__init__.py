"""Spec and graph to plan: selection, checks, lock, views. Imports no torch."""
