"""A live model to a Graph: building it, recording a run of it, watching how it is initialised."""

from surgery.capturing.build import build_model, example_inputs
from surgery.capturing.capture import capture
from surgery.capturing.from_spec import capture_spec

__all__ = ["build_model", "capture", "capture_spec", "example_inputs"]
