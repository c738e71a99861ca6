"""Scores, against ranks worked out by hand."""

from __future__ import annotations

import math

import pytest
import torch

from surgery.demo.score import score


def test_ranks_and_first_answers() -> None:
    codes = torch.eye(3)
    summaries = torch.tensor([[1.0, 0.0, 0.0], [0.9, 0.5, 0.1], [0.3, 0.2, 0.1]])
    found = score(torch.cat([summaries, codes]))
    assert found.ranks.tolist() == [0, 1, 2]
    assert found.first.tolist() == [0, 0, 0]
    assert found.recall(1) == pytest.approx(1 / 3)
    assert found.recall(2) == pytest.approx(2 / 3)


def test_a_tie_does_not_count_as_found() -> None:
    same = torch.tensor([[1.0, 0.0], [1.0, 0.0]])
    assert score(torch.cat([same, same])).recall(1) == 0


def test_gain_is_paired() -> None:
    codes = torch.eye(4)
    before = score(torch.cat([codes[[1, 0, 2, 3]], codes]))
    after = score(torch.cat([codes[[0, 2, 1, 3]], codes]))
    gain, error = after.gain(before, 1)
    assert gain == pytest.approx(0.0)
    # Differences 1, 0, -1, 0: sample variance 2/3, over 4 searches.
    assert error == pytest.approx(math.sqrt(2 / 3 / 4))
    assert before.standard_error(1) == pytest.approx(math.sqrt(1 / 3 / 4))
