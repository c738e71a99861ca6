"""What Python and PyTorch have once for the whole process, and an interrupted context manager leaves changed."""

from __future__ import annotations

import gc
import warnings
from collections.abc import Callable

import torch
from torch import nn
from torch.overrides import _len_torch_function_stack as function_modes
from torch.overrides import _pop_mode as pop_function_mode
from torch.utils._python_dispatch import _len_torch_dispatch_stack as dispatch_modes
from torch.utils._python_dispatch import _pop_mode as pop_dispatch_mode


class Surroundings:
    """Gradient mode, the stacks of modes (a default device is one), the collector, filters of warnings, the random
    state of the CPU, and the methods of `nn.Module` that accelerate replaces for a moment.

    A Ctrl-C between what a context manager sets and the block that it guards skips its way out. `no_grad` would
    then hold for all that the process does afterwards.
    """

    def __init__(self) -> None:
        self._gradients = torch.is_grad_enabled()
        self._modes = function_modes(), dispatch_modes()
        self._collects = gc.isenabled()
        self._filters = list(warnings.filters)
        self._random = torch.get_rng_state()
        self._registering = nn.Module.register_parameter, nn.Module.register_buffer

    def restore(self) -> None:
        _unwind(function_modes, pop_function_mode, self._modes[0])
        _unwind(dispatch_modes, pop_dispatch_mode, self._modes[1])
        torch.set_grad_enabled(self._gradients)
        (gc.enable if self._collects else gc.disable)()
        warnings.filters[:] = self._filters  # type: ignore[index]
        torch.set_rng_state(self._random)
        nn.Module.register_parameter, nn.Module.register_buffer = self._registering  # type: ignore[method-assign]


def _unwind(length: Callable[[], int], pop: Callable[[], object], wanted: int) -> None:
    while length() > wanted:
        pop()
