"""The work of looking inside."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from etude.core.recipe import Recipe
from etude.core.run import Draft, Run
from etude.interp.patterns import attention_patterns
from etude.interp.recipes import Patterns
from etude.models.load import load


def patterns(recipe: Patterns, inputs: Mapping[Recipe, Run], run: Draft) -> dict[str, Any]:
    """Read the attention patterns of a text and keep them, with its tokens, for a report to draw.

    What does not fit into the model's context is left out, and `cut` says how many tokens that were.
    """
    model, tokenizer = load(inputs[recipe.of])
    every = tokenizer.encode(recipe.text)
    ids = every[: recipe.of.context]
    read = attention_patterns(model, torch.tensor([ids]))[0]
    run.save("patterns.safetensors", {"patterns": read.numpy().astype(np.float32)})
    layers, heads = read.shape[:2]
    return {
        "tokens": [tokenizer.piece(i) for i in ids],
        "ids": ids,
        "cut": len(every) - len(ids),
        "layers": layers,
        "heads": heads,
    }
