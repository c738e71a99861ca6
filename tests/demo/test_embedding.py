"""Embeddings by the real all-MiniLM-L6-v2."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import BertModel

import surgery
from surgery.capturing.build import build_model
from surgery.demo.embedding import embed, embed_all, load_tokenizer, tokenize
from surgery.demo.pretrained import model_folder, spec_file

TEXTS = ["Return the sum of two numbers.", "add(a, b)\nreturn a + b", "A cat sat on the mat.", "Quote."]


@pytest.fixture(scope="module")
def encoder() -> Any:
    return BertModel.from_pretrained(str(model_folder())).eval()


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return load_tokenizer(model_folder())


def test_batches_and_order_change_nothing(encoder: Any, tokenizer: Any) -> None:
    together = embed_all(encoder, tokenizer, TEXTS)
    with torch.no_grad():
        alone = torch.cat([embed(encoder, tokenize(tokenizer, [text])) for text in TEXTS])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=0)
    torch.testing.assert_close(together.norm(dim=-1), torch.ones(len(TEXTS)))


def test_what_means_the_same_is_near(encoder: Any, tokenizer: Any) -> None:
    summary, code, cat, _ = embed_all(encoder, tokenizer, TEXTS)
    assert summary @ code > summary @ cat + 0.2


def test_training_mode_is_put_back(encoder: Any, tokenizer: Any) -> None:
    encoder.train()
    first, second = (embed_all(encoder, tokenizer, TEXTS) for _ in range(2))
    assert encoder.training
    assert torch.equal(first, second)
    encoder.eval()


def test_the_specs_model_is_the_published_one(encoder: Any) -> None:
    model = build_model(surgery.load(spec_file()), weights=model_folder() / "model.safetensors")
    published = encoder.state_dict()
    own = model.state_dict()
    assert own.keys() == published.keys()
    assert all(torch.equal(own[name], published[name]) for name in own)
