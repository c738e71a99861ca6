"""Sentence embeddings of a BERT encoder, as all-MiniLM-L6-v2 makes them: the mean of its token states, normalised.

Imports nothing of `surgery`, and so runs as a script in a process of its own, to prove that an exported adapter needs
only PEFT:

    python -I embedding.py MODEL_FOLDER ADAPTER_FOLDER TEXTS.json OUT.safetensors
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn import functional
from tqdm import tqdm

MAX_TOKENS = 64
_BATCH = 64


def load_tokenizer(folder: Path | str) -> Any:
    """The tokenizer of a model folder."""
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(str(folder), local_files_only=True)


def tokenize(tokenizer: Any, texts: Sequence[str]) -> dict[str, torch.Tensor]:
    """int64[texts, longest] `input_ids` and `attention_mask`, of at most `MAX_TOKENS` tokens a text."""
    tokens = tokenizer(list(texts), padding=True, truncation=True, max_length=MAX_TOKENS, return_tensors="pt")
    return {name: tokens[name] for name in ("input_ids", "attention_mask")}


def embed(model: nn.Module, tokens: dict[str, torch.Tensor]) -> torch.Tensor:
    """float[texts, width]: the mean of the states of each text's tokens, of length 1."""
    states = model(**tokens).last_hidden_state
    mask = tokens["attention_mask"].unsqueeze(-1).to(states.dtype)
    return functional.normalize((states * mask).sum(1) / mask.sum(1), dim=-1)


@torch.no_grad()
def embed_all(model: nn.Module, tokenizer: Any, texts: Sequence[str], *, progress: str = "") -> torch.Tensor:
    """float32[texts, width], in evaluation mode; texts of like length share a batch. `progress` names a bar."""
    was_training = model.training
    model.eval()
    order = sorted(range(len(texts)), key=lambda index: len(texts[index]))
    batches = [order[start : start + _BATCH] for start in range(0, len(order), _BATCH)]
    parts = [
        embed(model, tokenize(tokenizer, [texts[index] for index in batch]))
        for batch in tqdm(batches, desc=progress, unit="batch", leave=False, disable=None if progress else True)
    ]
    model.train(was_training)
    found = torch.cat(parts)
    result = torch.empty_like(found)
    result[torch.tensor(order)] = found
    return result


def main(folder: str, adapter: str, texts: str, out: str) -> None:
    """Embed lists of texts, one after the other, with a model under a PEFT adapter, by plain transformers and PEFT."""
    from peft import PeftModel
    from safetensors.torch import save_file
    from transformers import BertModel, logging

    logging.disable_progress_bar()
    model = PeftModel.from_pretrained(BertModel.from_pretrained(folder, local_files_only=True), adapter)
    tokenizer, lists = load_tokenizer(folder), json.loads(Path(texts).read_text(encoding="utf-8"))
    embeddings = torch.cat([embed_all(model, tokenizer, some) for some in lists])
    assert "surgery" not in sys.modules
    save_file({"embeddings": embeddings}, out)


if __name__ == "__main__":
    main(*sys.argv[1:])
