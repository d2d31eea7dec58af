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

PROBE = "The miller's daughter counted 12 of 345 geese, größer als 67 (or so): def f(x):\n    return x + 1\n"
"""Two tokenizers that make the same tokens of it are taken to be the same."""


@torch.no_grad()
def begun(model: Transformer, source: Run, tokenizer: Tokenizer) -> list[str]:
    """Give a model the weights of a run's model and return the names of those that it keeps as they are.

    Args:
        model: just built.
        source: a run that holds a model.
        tokenizer: what the model will read with; the other's has to make the same tokens.

    Raises:
        UsageError: the tokenizers differ, or the two models have no common trunk: outside the head, a weight is missing
            on either side or of another shape.
    """
    other, theirs = load(source)
    if theirs.vocabulary != tokenizer.vocabulary:
        raise UsageError(
            f"{source.id} has a vocabulary of {theirs.vocabulary} and the data of {tokenizer.vocabulary}: make the data"
            " with its tokenizer"
        )
    if theirs.encode(PROBE) != tokenizer.encode(PROBE):
        raise UsageError(
            f"{source.id} reads with another tokenizer of as many tokens, so that no token would mean what it did: make"
            " the data with its tokenizer"
        )
    held, own, kept = other.state_dict(), model.state_dict(), []
    if extra := [name for name in held if name not in own and name.partition(".")[0] not in HEADS]:
        raise UsageError(
            f"{source.id} does not fit the model, which has no {extra[0]} ({list(held[extra[0]].shape)} there)"
        )
    for name, weight in own.items():
        found = held.get(name)
        if found is not None and found.shape == weight.shape:
            weight.copy_(found)
        elif name.partition(".")[0] in HEADS or (found is None and model.grown(name)):
            kept.append(name)
        else:
            has = "none" if found is None else str(list(found.shape))
            raise UsageError(f"{source.id} does not fit the model: {name} is {list(weight.shape)}, its own is {has}")
    return kept
