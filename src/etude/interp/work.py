"""The work of looking inside."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from etude.core.errors import UsageError
from etude.core.recipe import Recipe
from etude.core.run import Draft, Run
from etude.interp.patterns import attention_patterns
from etude.interp.recipes import Patterns
from etude.models.load import load


def patterns(recipe: Patterns, inputs: Mapping[Recipe, Run], run: Draft) -> dict[str, Any]:
    """Read the attention patterns of a text and keep them, with its tokens, for a report to draw."""
    model, tokenizer = load(inputs[recipe.of])
    ids = tokenizer.encode(recipe.text)
    limit = recipe.of.context
    if len(ids) > limit:
        raise UsageError(f"the text has {len(ids)} tokens and the model reads {limit} at once; shorten --text")
    read = attention_patterns(model, torch.tensor([ids]))[0]
    run.save("patterns.safetensors", {"patterns": read.numpy().astype(np.float32)})
    layers, heads = read.shape[:2]
    return {"tokens": [tokenizer.piece(i) for i in ids], "ids": ids, "layers": layers, "heads": heads}
