"""Spec and graph to plan: selection, checks, lock, views. Imports no torch."""

from surgery.planning.plan import Plan, read_plan
from surgery.planning.planner import plan

__all__ = ["Plan", "plan", "read_plan"]
