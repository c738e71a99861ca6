import pytest
import torch
from torch.optim.lr_scheduler import CosineAnnealingLR

from surgery.training import TrainConfig
from surgery.training.schedule import learning_rate


def rates(steps, **settings):
    config = TrainConfig(out="run", steps=steps, **settings)
    return [learning_rate(config, step, steps) for step in range(steps)]


def test_constant_after_a_linear_warm_up():
    assert rates(6, learning_rate=1.0, warmup_steps=4) == [0.25, 0.5, 0.75, 1.0, 1.0, 1.0]


def test_linear_falls_to_zero_at_the_end():
    assert rates(4, learning_rate=1.0, schedule="linear") == [1.0, 0.75, 0.5, 0.25]


def test_cosine_equals_torchs():
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.3)
    scheduler = CosineAnnealingLR(optimizer, T_max=20)
    expected = []
    for _ in range(20):
        expected.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    assert rates(20, learning_rate=0.3, schedule="cosine") == pytest.approx(expected, rel=1e-9)


def test_warm_up_longer_than_the_run_only_rises():
    assert rates(3, learning_rate=1.0, warmup_steps=10, schedule="cosine") == pytest.approx([0.1, 0.2, 0.3])
