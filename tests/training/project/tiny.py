"""A small BERT with random weights, and a task on random tokens: the user's side of the training tests."""

import random

import torch
from transformers import BertConfig, BertModel

WORDS, MASK = 60, 59


def build():
    torch.manual_seed(11)
    config = BertConfig(
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=48,
        vocab_size=WORDS,
        max_position_embeddings=16,
        hidden_dropout_prob=0.1,
        attention_probs_dropout_prob=0.1,
    )
    return BertModel(config, add_pooling_layer=False)


def example():
    return (), {"input_ids": torch.arange(16).reshape(2, 8)}


class Unmask:
    """Tell the first word's parity from the rest. Masks words at random, drawing from two generators."""

    def __init__(self, samples=22):
        generator = torch.Generator().manual_seed(5)
        self.samples = [torch.randint(0, MASK, (8,), generator=generator) for _ in range(samples)]

    def train_dataset(self):
        return self.samples

    def collate(self, samples):
        words = torch.stack(samples)
        masked = torch.where(torch.rand(words.shape) < 0.1, MASK, words)
        masked[:, random.randrange(8)] = MASK
        return {"input_ids": masked, "parity": words[:, 0] % 2}

    def loss(self, model, batch):
        pooled = model(input_ids=batch["input_ids"]).last_hidden_state.mean(1)
        loss = torch.nn.functional.cross_entropy(pooled[:, :2] * 4, batch["parity"])
        return {"loss": loss, "spread": pooled.std()}

    def evaluate(self, model):
        batch = self.collate(self.samples)
        logits = model(input_ids=batch["input_ids"]).last_hidden_state.mean(1)[:, :2]
        return {"accuracy": (logits.argmax(-1) == batch["parity"]).float().mean().item()}


def unmask():
    return Unmask()


class NotFinite(Unmask):
    """Its loss is NaN from the third forward pass on."""

    calls = 0

    def loss(self, model, batch):
        self.calls += 1
        return super().loss(model, batch)["loss"] * (float("nan") if self.calls >= 3 else 1.0)


def not_finite():
    return NotFinite()


no_factory = 3


def no_task():
    return object()
