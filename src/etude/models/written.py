"""The work of writing texts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from etude.core.recipe import Recipe
from etude.core.run import Draft, Run
from etude.models.generation import generate
from etude.models.load import load
from etude.models.recipes import Generate


def generated(recipe: Generate, inputs: Mapping[Recipe, Run], run: Draft) -> dict[str, Any]:
    """Write the texts, and keep their tokens with log-probabilities."""
    model, tokenizer = load(inputs[recipe.of])
    written = generate(
        model,
        tokenizer,
        [recipe.prompt] * recipe.texts,
        recipe.sampling,
        batch=recipe.batch,
        precision=recipe.precision,
        progress=run.progress,
    )
    return {
        "prompt": recipe.prompt,
        "texts": [
            {
                "log_probability": text.log_probability,  # first, since what begins with words is named by them
                "text": text.text,
                "stopped": text.stopped,
                "ids": list(text.ids),
                "tokens": [tokenizer.piece(id) for id in text.ids],
                "log_probabilities": list(text.log_probabilities),
            }
            for text in written
        ],
    }
