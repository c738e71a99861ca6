"""A small BERT with random weights, and a task on random tokens: the user's side of the training tests."""

import random

import torch
from transformers import BertConfig, BertModel

WORDS, MASK = 60, 59


def build(dropout=0.1):
    torch.manual_seed(11)
    config = BertConfig(
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=48,
        vocab_size=WORDS,
        max_position_embeddings=16,
        hidden_dropout_prob=dropout,
        attention_probs_dropout_prob=dropout,
    )
    return BertModel(config, add_pooling_layer=False)


def example():
    return (), {"input_ids": torch.arange(16).reshape(2, 8)}


class Unmask:
    """Tell the parity of the first word. Masks words at random, drawing from two generators."""

    def __init__(self, samples=22, masking=True):
        self.masking = masking
        generator = torch.Generator().manual_seed(5)
        self.samples = [torch.randint(0, MASK, (8,), generator=generator) for _ in range(samples)]

    def train_dataset(self):
        return self.samples

    def collate(self, samples):
        words = torch.stack(samples)
        if not self.masking:
            return {"input_ids": words, "parity": words[:, 0] % 2}
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
