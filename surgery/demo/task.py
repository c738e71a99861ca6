"""The training task: bring a summary and the code it belongs to together, and apart from the others of the batch.

surgery train specs/minilm/minilm.surg --weights MODEL_FOLDER/model.safetensors --task surgery.demo.task:retrieval \\
    --out runs/minilm --steps 60 --batch-size 32 --learning-rate 1e-3
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from surgery.demo.embedding import embed, embed_all, load_tokenizer, tokenize
from surgery.demo.functions import Function, split, standard_library
from surgery.demo.pretrained import model_folder
from surgery.demo.score import Score, score

_TEMPERATURE = 0.05


class Retrieval:
    """Find the function that a summary is about. A `surgery.training.Task` with a collation and an evaluation."""

    def __init__(self, train: Sequence[Function], test: Sequence[Function], tokenizer: Any) -> None:
        self.train, self.test, self.tokenizer = train, test, tokenizer

    def train_dataset(self) -> Sequence[Function]:
        return self.train

    def collate(self, functions: list[Function]) -> dict[str, dict[str, torch.Tensor]]:
        """The tokens of the summaries and those of the codes, in the same order."""
        return {
            "summaries": tokenize(self.tokenizer, [function.summary for function in functions]),
            "codes": tokenize(self.tokenizer, [function.code for function in functions]),
        }

    def loss(self, model: nn.Module, batch: dict[str, dict[str, torch.Tensor]]) -> torch.Tensor:
        """The symmetric in-batch softmax loss (InfoNCE, arXiv 1807.03748; both ways as in CLIP, arXiv 2103.00020)."""
        likeness = embed(model, batch["summaries"]) @ embed(model, batch["codes"]).T / _TEMPERATURE
        own = torch.arange(len(likeness), device=likeness.device)
        return (functional.cross_entropy(likeness, own) + functional.cross_entropy(likeness.T, own)) / 2

    def evaluate(self, model: nn.Module) -> dict[str, float]:
        """Recall among all held-out functions."""
        found = self.score(model)
        return {"recall_at_1": found.recall(1), "recall_at_10": found.recall(10)}

    def texts(self) -> tuple[list[str], list[str]]:
        """What a model has to embed for a score: the summaries and the codes of the held-out functions."""
        return [function.summary for function in self.test], [function.code for function in self.test]

    def score(self, model: nn.Module, *, progress: str = "") -> Score:
        """Search every held-out summary among the held-out codes."""
        return score(torch.cat([embed_all(model, self.tokenizer, texts, progress=progress) for texts in self.texts()]))


def retrieval() -> Retrieval:
    """The whole task, on the standard library of this Python and with the tokenizer of all-MiniLM-L6-v2."""
    train, test = split(standard_library())
    return Retrieval(train, test, load_tokenizer(model_folder()))
