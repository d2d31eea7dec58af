"""Weights to begin with: those of another model, where the two share them."""

from __future__ import annotations

import torch

from etude.core.errors import UsageError
from etude.core.run import Run
from etude.models.load import load
from etude.models.transformer import Transformer
from etude.text.tokenizers.live import Tokenizer

HEADS = ("unembed", "b_U", "pool", "transform", "follows")
"""Parts that belong to what a model is asked, and may differ between the two."""


@torch.no_grad()
def begun(model: Transformer, source: Run, tokenizer: Tokenizer) -> list[str]:
    """Give a model the weights of a run's model and return the names of those that it keeps as they are.

    Args:
        model: just built.
        source: a run that holds a model.
        tokenizer: what the model will read with; the other's has to have as many tokens.

    Raises:
        UsageError: the two have no common trunk: a weight outside the head is missing or of another shape.
    """
    other, theirs = load(source)
    if theirs.vocabulary != tokenizer.vocabulary:
        raise UsageError(
            f"{source.id} has a vocabulary of {theirs.vocabulary} and the data of {tokenizer.vocabulary}: make the data"
            " with its tokenizer"
        )
    held, kept = other.state_dict(), []
    for name, weight in model.state_dict().items():
        found = held.get(name)
        if found is not None and found.shape == weight.shape:
            weight.copy_(found)
        elif name.partition(".")[0] in HEADS:
            kept.append(name)
        else:
            has = "none" if found is None else str(list(found.shape))
            raise UsageError(f"{source.id} does not fit the model: {name} is {list(weight.shape)}, its own is {has}")
    return kept
