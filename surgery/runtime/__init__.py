"""Adapters of a running model: loaded, switched, scaled, combined and switched off in place, also when compiled."""

from surgery.runtime.runtime import Change, Runtime

__all__ = ["Change", "Runtime"]
