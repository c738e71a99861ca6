"""How well embeddings find what they should: ranks, recall and standard errors."""

from __future__ import annotations

from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Score:
    """What the searches found: `first[i]` is the first answer of search `i`, `ranks[i]` where the right one came."""

    first: torch.Tensor
    ranks: torch.Tensor

    def recall(self, among: int) -> float:
        """The share of searches whose right answer is one of the first `among`."""
        return self._hits(among).mean().item()

    def standard_error(self, among: int) -> float:
        """The standard error of `recall(among)` over searches."""
        return _standard_error(self._hits(among))

    def gain(self, before: Score, among: int) -> tuple[float, float]:
        """By how much the recall grew, and the standard error of that: the same searches, so taken in pairs."""
        difference = self._hits(among) - before._hits(among)
        return difference.mean().item(), _standard_error(difference)

    def _hits(self, among: int) -> torch.Tensor:
        return (self.ranks < among).double()


def score(embeddings: torch.Tensor) -> Score:
    """Search with each row of the first half of `embeddings`, float[2n, width], among the rows of the second half.

    Row `i` of the one belongs to row `i` of the other. An answer that is as near as the right one comes before it.
    """
    summaries, codes = embeddings.chunk(2)
    likeness = summaries @ codes.T
    ranks = (likeness >= likeness.diag().unsqueeze(1)).sum(1) - 1
    return Score(first=likeness.argmax(1), ranks=ranks)


def _standard_error(values: torch.Tensor) -> float:
    return (values.std() / len(values) ** 0.5).item()
