"""The learning rate as a pure function of the step: nothing to save, nothing to restore."""

from __future__ import annotations

import math

from surgery.training.config import TrainConfig


def learning_rate(config: TrainConfig, step: int, steps: int) -> float:
    """The rate of step `step`, counted from 0, in a run of `steps`.

    Warm-up rises linearly and reaches the peak at step `warmup_steps - 1`. After it, `linear` and `cosine`
    (half a period, Loshchilov and Hutter 2017, arXiv:1608.03983, without restarts) fall to 0 at step `steps`.
    """
    warmup = config.warmup_steps
    if step < warmup:
        return config.learning_rate * (step + 1) / warmup
    if config.schedule == "constant":
        return config.learning_rate
    progress = (step - warmup) / max(1, steps - warmup)
    share = 1 - progress if config.schedule == "linear" else (1 + math.cos(math.pi * progress)) / 2
    return config.learning_rate * share
