"""Trainable tokens: new rows for some tokens of an embedding, the others staying as they are.

Not from a paper; see https://huggingface.co/docs/peft/package_reference/trainable_tokens.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from surgery.graph import Module
from surgery.methods.catalogue import settings_of
from surgery.methods.geometry import Geometry
from surgery.methods.method import Method, Start

_setting = settings_of("TRAINABLE_TOKENS")


class TrainableTokens(Method):
    """W with the rows of the tokens `token_indices` replaced by trained ones.

    Of a Linear, an output head, these are the rows that make the tokens' scores.
    """

    name = "trainable_tokens"
    title = "trainable tokens"
    paper = "https://huggingface.co/docs/peft/package_reference/trainable_tokens"
    peft_type = "TRAINABLE_TOKENS"
    layers = ("Embedding", "Linear")
    # PEFT's layers fail when an adapter is active that is not on them.
    several = False
    settings = (
        _setting("token_indices", "counts", "the rows that are trained, counted from 0"),
        _setting(
            "init_weights",
            "bool",
            "true: as the rows that they replace; false: normal, not the base model at start",
            name="init",
        ),
    )

    def conflict(self, settings: Mapping[str, Any]) -> str | None:
        tokens = settings["token_indices"]
        if not tokens:
            return "token_indices names no tokens; write them as in `token_indices = [0, 7]`"
        if len(set(tokens)) < len(tokens):
            twice = next(token for token in tokens if tokens.count(token) > 1)
            return f"token_indices names {twice} twice"
        return None

    def refusal_of(self, module: Module, sizes: Geometry, settings: Mapping[str, Any]) -> str | None:
        rows = sizes.inputs if sizes.layer == "Embedding" else sizes.outputs
        last = max(settings["token_indices"])
        if last >= rows:
            return f"it has rows for the tokens 0 to {rows - 1}, and token_indices names {last}"
        if sizes.has_bias:
            return "PEFT's trainable tokens leave out the bias of a Linear"
        if sizes.layer == "Embedding" and module.kind != "Embedding":
            return f"PEFT's trainable tokens look up as an Embedding does, and {module.kind} may do it in its own way"
        return None

    def added_to(self, sizes: Geometry, settings: Mapping[str, Any]) -> int:
        """A row for each token."""
        width = sizes.outputs if sizes.layer == "Embedding" else sizes.inputs
        return width * len(settings["token_indices"])

    def start(self, settings: Mapping[str, Any]) -> Start:
        return "exact" if settings["init"] else "none"

    def reads_weights(self, settings: Mapping[str, Any]) -> bool:
        return bool(settings["init"])


TRAINABLE_TOKENS = TrainableTokens()
