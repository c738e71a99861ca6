"""Which tensors train: exactly those of the plan, checked when the optimiser is made and at every save."""

from __future__ import annotations

from torch import nn

from surgery.diagnostics import Diagnostics
from surgery.inject.compare import compare
from surgery.inject.state import Adapted
from surgery.planning import Plan


def trainable_parameters(adapted: Adapted, plan: Plan) -> dict[str, nn.Parameter]:
    """The parameters with `requires_grad`, by full name, in the model's order.

    Raises SurgeryError (E0509) unless the model is adapted as planned and these are what the plan trains.
    """
    Diagnostics(compare(adapted, plan)).raise_errors()
    return {name: parameter for name, parameter in adapted.named_parameters() if parameter.requires_grad}
